-- Where the bot is, and since when.

bot.on_load(function()
  if not kv.get("since") then kv.set("since", time.now()) end
  started = time.now()
end)

local function status(ev)
  local parts = {}
  for _, network in bot.networks() do
    table.insert(parts, ("%s: %s"):format(network, fmt.list(bot.channels(network))))
  end
  return ("up for %s; %s"):format(fmt.duration(time.now() - started), table.concat(parts, "; "))
end

for _, kind in { "pub", "msg" } do
  bot.bind(kind, "-|-", "!status", status, { help = "Tells where the bot is", cooldown = "2s" })
end
