local t = require "test"

t.case("a deployment is told and written down", function()
  local b = t.bot{ script = "deploys.lua", config = { place = "#ops", from = "kafka:deployments", audit = "kafka:audit" } }
  b:happens("stream", { topic = "deployments", json = { app = "shop", version = "1.2", env = "prod", status = "done" } })
  b:expect("#ops", "shop 1.2 on prod: done")
  local published = b:published()
  t.eq(#published, 1)
  t.eq(published[1].to, "kafka:audit")
  b:happens("stream", { topic = "deployments", text = "what?" })
  b:expect_silence("#ops")
end)
