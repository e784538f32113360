-- Reads reports row by row and says what they come to. In config/scripts/reports.yaml:
--
--   {place: "#shop", mask: "/srv/reports/*.csv rows then=move:/srv/reports/done", sum: amount}

local config = bot.config or {}

if config.mask then
  bot.bind("file", "-|-", config.mask, function(ev)
    local name = `report/{ev.path}/{ev.sha256 or ""}`
    local sum = kv.get(name) or { rows = 0, total = 0 }
    -- A row may come twice (at least once is what is promised); it counts once.
    if ev.row > sum.rows then
      sum.rows = ev.row
      sum.total += tonumber(ev.data[config.sum]) or 0
      kv.set(name, sum, { ttl = "1d" })
    end
    -- Said twice is better than never.
    if not ev.last then return end
    return `{ev.name}: {fmt.plural(sum.rows, "row")}, {config.sum} {string.format("%.2f", sum.total)}`
  end, { to = config.place })
end
