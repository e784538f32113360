local t = require "test"

local function watching()
  return t.bot{ script = "errors.lua", config = { place = "#ops", logs = { "/var/log/app.log ~ERROR" } }, at = "2026-03-02T10:01Z" }
end

local function logs(b, text)
  b:happens("log", { path = "/var/log/app.log", text = text })
end

t.case("the same error is told once, then as a number, also over a reload", function()
  local b = watching()
  logs(b, "ERROR order 17 of \"alice\" failed after 30 ms")
  b:expect("#ops", "ERROR order 17 of")
  logs(b, "ERROR order 18 of \"bob\" failed after 7 ms")
  b:reload()
  logs(b, "ERROR order 19 of \"carol\" failed after 8 ms")
  b:expect_silence("#ops")
  b:advance("4m")
  b:expect("#ops", "2 more: ERROR order 17 of")
  logs(b, "ERROR the till is stuck")
  b:expect("#ops", "the till is stuck")
end)

t.case("after an hour of quiet it is news again", function()
  local b = watching()
  logs(b, "ERROR the till is stuck")
  b:expect("#ops", "the till is stuck")
  b:advance("65m")
  logs(b, "ERROR the till is stuck")
  b:expect("#ops", "ERROR the till is stuck")
end)
