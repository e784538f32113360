local t = require "test"

t.case("a stranger may not make the bot speak, and is told why", function()
  local b = t.bot{ script = "ops.lua" }
  b:user("mallory"):says("chief", "!say #ops I am the chief")
  b:expect("mallory", "!say needs the flags m|-, and I do not know you")
  b:expect_no_effects()
end)

t.case("a master may", function()
  local b = t.bot{ script = "ops.lua" }
  b:user("alice", { flags = "m" }):says("chief", "!say #ops maintenance at noon")
  b:expect("#ops", "maintenance at noon")
  b:expect("alice", "said")
end)

t.case("the topic needs an operator of the channel", function()
  local b = t.bot{ script = "ops.lua" }
  b:user("alice", { flags = "o" }):says("#ops", "!topic all is well")
  b:expect("#ops", "alice: I cannot change the topic")
end)
