local t = require "test"

t.case("what changed is told with what it was", function()
  local b = t.bot{ script = "statuspage.lua", config = { github = "#ops" } }
  b:happens("rest", { name = "github", event = "changed", data = "Partial System Outage", text = "x" })
  b:expect("#ops", "github: Partial System Outage")
  b:happens("rest", { name = "github", event = "changed", data = "All Systems Operational", text = "x" })
  b:expect("#ops", "github: Partial System Outage → All Systems Operational")
end)
