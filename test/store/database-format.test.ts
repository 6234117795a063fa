import { expect, test } from "vitest";
import { damageText } from "../../src/store/database-format.ts";

test("who is told of damage is told the file, what is wrong, that nothing was changed, and what to do", () => {
  expect(damageText("/data/journal.db", "lease 1 has no id")).toBe(
    "/data/journal.db is damaged: lease 1 has no id; it was left as it is: restore a backup, or move the directory away to start empty",
  );
});
