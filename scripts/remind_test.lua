local t = require "test"

t.case("alice is reminded when the time has come, also after a reload", function()
  local b = t.bot{ script = "remind.lua", at = "2026-03-02T10:00Z" }
  b:user("alice"):says("#ops", "!remind 10m check the deploy")
  b:expect("#ops", "alice: in 10 min")
  b:reload()
  b:advance("9m")
  b:expect_no_effects()
  b:advance("2m")
  b:expect("#ops", "alice: check the deploy")
end)

t.case("a wrong time is told with the usage", function()
  local b = t.bot{ script = "remind.lua" }
  b:user("alice"):says("#ops", "!remind soon tea")
  b:expect("#ops", "alice: after is a time such as 90s or 1h30m")
end)

t.case("two reminders in five seconds are one too many", function()
  local b = t.bot{ script = "remind.lua" }
  local alice = b:user("alice")
  alice:says("#ops", "!remind 1h tea")
  b:expect("#ops", "in 1 h")
  alice:says("#ops", "!remind 1h tea")
  b:expect("#ops", "try again in")
end)
