-- The smallest script: somebody says !hello, and the bot answers.

bot.bind("pub", "-|-", "!hello", function(ev)
  return "hi " .. ev.nick
end, { help = "Says hi" })

bot.bind("msg", "-|-", "!hello", function(ev)
  return "hi " .. ev.nick .. ", nice and quiet here"
end, { help = "Says hi" })
