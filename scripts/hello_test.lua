local t = require "test"

t.case("alice is greeted in the channel", function()
  local b = t.bot{ script = "hello.lua" }
  b:user("alice"):says("#ops", "!hello")
  b:expect("#ops", "hi alice")
  b:expect_no_effects()
end)

t.case("and in private", function()
  local b = t.bot{ script = "hello.lua" }
  b:user("alice"):says("chief", "!hello")
  b:expect("alice", "hi alice, nice and quiet here")
  b:expect_no_effects()
end)

t.case("hello is still there after the connection was lost and the script reloaded", function()
  local b = t.bot{ script = "hello.lua" }
  b:kill_connection()
  b:reload()
  b:user("bob"):says("#ops", "!hello")
  b:expect("#ops", "hi bob")
end)
