/** Owners of files share threads: each closes, fails and opens for itself. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openSqliteStore } from "../../src/store/control/sqlite.io.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-thread-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let opened = 0;

function newDirectory(): string {
  opened += 1;
  return mkdtempSync(join(folder, `${opened}-`));
}

const VALUE = Uint8Array.of(1, 2, 3);

test("an owner that closes, or cannot open, leaves the others of its thread as they are", async () => {
  const directory = newDirectory();
  await using one = await openSqliteStore(directory);
  const other = await openSqliteStore(newDirectory());
  await expect(openSqliteStore(directory)).rejects.toThrow("store_unavailable");
  await other.close();
  await expect(other.get("a")).rejects.toThrow("store_unavailable");
  await one.compareAndSwap("a", 0, VALUE.slice());
  expect((await one.get("a"))?.value).toEqual(VALUE);
});

test("after the last owner has closed another thread begins, also at once", async () => {
  const directory = newDirectory();
  for (let round = 0; round < 5; round++) {
    const store = await openSqliteStore(directory);
    await store.compareAndSwap("a", round, Uint8Array.of(round));
    // Nobody waits for the first to end.
    const closed = store.close();
    const next = await openSqliteStore(newDirectory());
    expect(await next.get("a")).toBeUndefined();
    await Promise.all([closed, next.close()]);
  }
  await using store = await openSqliteStore(directory);
  expect((await store.get("a"))?.value).toEqual(Uint8Array.of(4));
});
