-- Every module and every way to answer, for api_test.lua.
local greeting = require "lib/greeting"

bot.caps{ http = { "api.example.net" }, sh = { "deploy" } }

local function say(word, f, options) bot.bind("pub", "-|-", word, f, options) end

say("!list", function() return { "one", 2, "three" } end)
say("!number", function() return 42 end)
say("!nothing", function() end)
say("!reply", function(ev) ev:reply("a"); ev:say("b"); ev:notice("c"); ev:act("d") end)
say("!lib", function(ev) return greeting.hello(ev.nick) end)
say("!fields", function(ev)
  return json.encode({ ev.nick, ev.user, ev.host, ev.handle, ev.account or json.null, ev.chan, ev.text, ev.private,
    ev.network, ev.kind, ev.mask, ev.vouched })
end)
say("!iter", function(ev)
  local names = {}
  for name, value in ev do if type(value) == "string" then table.insert(names, name) end end
  table.sort(names)
  return table.concat(names, " ") .. " " .. tostring(ev:table().nick) .. " " .. tostring(ev.nothing)
end)
say("!tags", function(ev) return ev.tags.time and "has a time" or "has none" end)
say("!args", function(ev) return json.encode(ev.args) end,
  { usage = "<app> [env:staging|prod=staging] [--force]", aliases = { "!a" } })
say("!fail", function() bot.fail("no such app") end)
say("!pcall", function()
  local ok, err = pcall(bot.fail, "caught")
  return tostring(ok) .. " " .. tostring(err):match("caught")
end)
say("!error", function() local nothing; return nothing.field end)
say("!bad", function() return { named = true } end)
say("!kv", function()
  kv.set("list", { 1, "two", { three = 3 } })
  kv.set("short", true, { ttl = "10s" })
  return json.encode({ kv.incr("n"), kv.incr("n", 2), kv.cas("lock", nil, "me"), kv.cas("lock", nil, "you"),
    kv.keys(), kv.get("list"), kv.delete("lock"), kv.get("lock") or json.null })
end)
say("!short", function() return tostring(kv.get("short")) end)
say("!time", function()
  return table.concat({ time.iso(), time.format(time.parse("2026-07-01T12:00:00Z"), "%H:%M", "Europe/Lisbon"),
    tostring(time.duration("1h30m")), fmt.duration(3665) }, " ")
end)
say("!sleep", function() time.sleep("90s") return "awake at " .. time.iso() end, { timeout = "2m" })
say("!wait-within", function()
  local f = coroutine.wrap(function() time.sleep(1); coroutine.yield("one"); time.sleep(1); return "two" end)
  local ok, err = coroutine.resume(coroutine.create(function() time.sleep(1) error("oops") end))
  return { f(), f(), tostring(ok) .. " " .. tostring(err):match("oops") }
end)
say("!fmt", function()
  return fmt.plain(fmt.bold("a") .. fmt.color("1", "red")) .. fmt.list({ "x", "y", "z" }, "or") .. fmt.truncate("abcdef", 4)
end)
say("!http", function()
  local answer = http.post("https://api.example.net/x", { json = { a = 1 } })
  return answer.status .. " " .. json.decode(answer.body).b
end)
say("!sh", function() local r = sh.run({ "deploy", "web" }) return r.code .. " " .. r.stdout end)
say("!undeclared", function() return sh.run({ "rm", "-rf" }).stdout end)
say("!option", function() kv.set("x", 1, { tll = 1 }) end)
say("!users", function(ev)
  local names = {}
  for _, user in bot.users(ev.chan) do table.insert(names, user.nick) end
  return table.concat(names, ",") .. " on " .. table.concat(bot.channels(), ",") .. " of " .. table.concat(bot.networks(), ",")
end)
say("!join", function(ev) bot.join("#dev"); bot.say("test/#dev", "hello dev") end)
say("!can", function(ev) return tostring(ev:can("D|-")) end)
say("!bind", function()
  local bind
  bind = bot.bind("pub", "-|-", "!once", function() bind:unbind() return "once" end)
  return "bound"
end)
bot.bind("pubm", "-|-", "#ops *wor?d*", function(ev) ev:say("heard " .. ev.text) end)
bot.on_load(function() say("!loaded", function() return "bound while loading" end) end)
bot.bind("join", "-|-", "* carol!*@*", function(ev) return "welcome " .. ev.nick end)
bot.bind("time", "-|-", "?0 * * * *", function(ev) bot.say("#ops", "minute " .. ev.min) end)
