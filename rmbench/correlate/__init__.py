"""Do metrics of reward models predict the policies made with them? `tables` reads, `report` computes, `plots` draws."""
