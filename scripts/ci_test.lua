local t = require "test"

local function building()
  return t.bot{ script = "ci.lua", config = { place = "#dev", masks = { "github/workflow_run/completed:acme/*", "gitlab/pipeline" } } }
end

local function github(b, conclusion)
  b:happens("webhook", {
    provider = "github", event = "workflow_run", action = "completed", repo = "acme/shop", ref = "main",
    json = { workflow_run = { conclusion = conclusion, name = "tests", html_url = "https://ci/7" } },
  })
end

t.case("a build that breaks is told once, and when it is well again", function()
  local b = building()
  github(b, "success")
  b:expect_silence("#dev")
  github(b, "failure")
  b:expect("#dev", "acme/shop main tests is broken: https://ci/7")
  github(b, "failure")
  b:expect_silence("#dev")
  b:advance("10m")
  github(b, "success")
  b:expect("#dev", "acme/shop main tests is well again after 10 min")
end)

t.case("gitlab's pipelines too", function()
  local b = building()
  b:happens("webhook", { provider = "gitlab", event = "pipeline", action = "failed", repo = "acme/shop", ref = "main", text = "by alice" })
  b:expect("#dev", "acme/shop main is broken: by alice")
end)
