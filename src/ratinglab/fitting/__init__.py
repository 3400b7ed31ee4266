"""How an equation is fitted: LightningModules, optimizers, schedules and what runs beside them."""
