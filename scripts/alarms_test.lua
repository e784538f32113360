local t = require "test"

t.case("what fires is told, listed and over", function()
  local rule = "prometheus:cpu>80"
  local b = t.bot{ script = "alarms.lua", config = { place = "#ops", rules = { rule } } }
  local alice = b:user("alice")
  alice:says("#ops", "!alarms")
  b:expect("#ops", "nothing fires")
  b:happens("metric", { state = "firing", labels = { host = "a" }, text = "cpu is 90 (> 80) on a" })
  b:expect("#ops", "cpu is 90")
  b:advance("3m")
  alice:says("#ops", "!alarms")
  b:expect("#ops", "cpu is 90 (> 80) on a, for 3 min")
  b:happens("metric", { state = "resolved", labels = { host = "a" }, text = "cpu is 10 on a" })
  b:expect("#ops", "cpu is 10 on a")
  b:advance("10s")
  alice:says("#ops", "!alarms")
  b:expect("#ops", "nothing fires")
end)
