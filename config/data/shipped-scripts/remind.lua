-- !remind 10m check the deploy: says it again later, also over a restart of the bot.

local function later(seconds)
  return time.now() + seconds
end

bot.bind("pub", "-|-", "!remind", function(ev)
  local id = kv.incr("last")
  local name = ("reminder/%06d"):format(id)
  kv.set(name, { at = later(ev.args.after), nick = ev.nick, target = ev.network .. "/" .. ev.chan, text = ev.args.text })
  return ("%s: in %s"):format(ev.nick, fmt.duration(ev.args.after))
end, {
  usage = "<after:duration> <text...>",
  help = "Reminds you in the channel",
  cooldown = { user = "5s" },
})

bot.bind("cron", "-|-", "* * * * *", function()
  for _, name in kv.keys("reminder/") do
    local due = kv.get(name)
    if due and due.at <= time.now() and kv.delete(name) then
      bot.say(due.target, ("%s: %s"):format(due.nick, due.text))
    end
  end
end)
