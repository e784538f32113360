local t = require "test"

local function announcing(kind, mask)
  return t.bot{ script = "announce.lua", config = { [kind] = { [mask] = "#ops" } } }
end

t.case("a push is announced where the block says, others are not", function()
  local b = announcing("webhook", "github/push:acme/*")
  b:happens("webhook", { provider = "github", event = "push", repo = "acme/shop", text = "acme/shop main push by alice" })
  b:expect("#ops", "acme/shop main push by alice")
  b:happens("webhook", { provider = "github", event = "push", repo = "other/shop", text = "other" })
  b:expect_silence("#ops")
end)

t.case("a line of a log is announced, cut between characters", function()
  local b = announcing("log", "/var/log/app.log ~ERROR")
  b:happens("log", { path = "/var/log/app.log", text = "fine" })
  b:happens("log", { path = "/var/log/app.log", text = "ERROR " .. string.rep("ä", 400) .. "\nmore" })
  b:expect("#ops", "ä…")
  t.eq(#b:transcript(), 1)
end)

t.case("each kind has its words", function()
  for kind, row in {
    file = { "/data/*.csv", { name = "a.csv", event = "created", size = 3 }, "created a.csv (3 bytes)" },
    stream = { "kafka:deployments", { topic = "deployments", text = "shop 1.2" }, "deployments: shop 1.2" },
    metric = { "prometheus:cpu>80", { state = "firing", text = "FIRING cpu is 90 (> 80)" }, "FIRING cpu is 90" },
    rest = { "rest:status", { name = "status", event = "changed", text = "down" }, "status: changed down" },
    database = { "db:query/orders", { query = "orders", event = "added", text = "{}" }, "orders: added {}" },
  } do
    local b = announcing(kind, row[1])
    b:happens(kind, row[2])
    b:expect("#ops", row[3])
  end
end)

t.case("without a block it does nothing", function()
  local b = t.bot{ script = "announce.lua" }
  b:expect_no_effects()
end)
