-- For operators: !say and !topic show how flags, arguments and failures work.

bot.bind("pub", "o|o", "!topic", function(ev)
  local me
  for _, user in bot.users(ev.chan) do
    if user.nick == bot.nick() then me = user end
  end
  if not me or not me.status:find("[@%%&~]") then
    bot.fail("I cannot change the topic without being an operator here")
  end
  bot.raw("TOPIC", ev.chan, ev.args.text)
end, { usage = "<text...>", help = "Changes the topic" })

bot.bind("msg", "m", "!say", function(ev)
  bot.say(ev.args.where, ev.args.text)
  return "said"
end, { usage = "<where> <text...>", help = "Says something in a channel" })
