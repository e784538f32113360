local t = require "test"

t.case("some rows are told, many are counted", function()
  local b = t.bot{ script = "rows.lua", config = { orders = "#shop" }, at = "2026-03-02T10:00:30Z" }
  for number = 1, 8 do
    b:happens("database", { query = "orders", event = "added", text = `order {number}` })
  end
  b:expect("#shop", "orders added: order 1")
  b:expect("#shop", "orders added: order 5")
  b:expect_silence("#shop")
  b:advance("31s")
  b:expect("#shop", "orders: 3 more in the last minute")
  b:happens("database", { query = "orders", event = "added", text = "order 9" })
  b:expect("#shop", "order 9")
end)
