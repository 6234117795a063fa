import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { StoreChange, StorePage } from "../../../src/store/control/store.ts";
import { StoreWatches } from "../../../src/store/control/store-watches.io.ts";

function change(key: string, version: number): StoreChange {
  return { key, version, item: { key, value: new Uint8Array(), version } };
}

const EMPTY: StorePage = { items: [], revision: 5, nextAfter: undefined };

test("a change that the store reports while a watch reads a page is reported once, and not if the page is newer", async () => {
  const watches = new StoreWatches(() => {
    watches.changed([change("a", 5), change("b", 6)]);
    return Promise.resolve(EMPTY);
  });
  const watch = watches.open("");
  expect(await watch.next()).toEqual({ isReset: true, changes: [], revision: 5, isCurrent: false });
  expect(await watch.next()).toEqual({ isReset: false, changes: [change("b", 6)], revision: 6, isCurrent: true });
});

test("a change of an item on an earlier page is reported after the last page", async () => {
  const pages: StorePage[] = [
    { ...EMPTY, nextAfter: "m" },
    { ...EMPTY, revision: 7 },
  ];
  const watches = new StoreWatches(() => Promise.resolve(pages.shift() ?? EMPTY));
  const watch = watches.open("");
  expect(await watch.next()).toMatchObject({ isReset: true, isCurrent: false });
  watches.changed([change("a", 6), change("n", 7)]);
  expect(await watch.next()).toMatchObject({ isReset: false, changes: [], isCurrent: false });
  expect(await watch.next()).toEqual({ isReset: false, changes: [change("a", 6)], revision: 7, isCurrent: true });
});

test("an error is passed to the reader, and the watch then continues", async () => {
  let isFailing = true;
  const watches = new StoreWatches(() =>
    isFailing ? Promise.reject(new WaymarkError("store_unavailable", "the disk is away")) : Promise.resolve(EMPTY),
  );
  const watch = watches.open("");
  await expect(watch.next()).rejects.toMatchObject({ reason: "store_unavailable" });
  isFailing = false;
  expect(await watch.next()).toMatchObject({ isReset: true, revision: 5 });
});

test("a watch that is closed while it reads ends, whatever the store answers", async () => {
  const watches = new StoreWatches(() => Promise.reject(new WaymarkError("store_unavailable", "closed")));
  const watch = watches.open("");
  const next = watch.next();
  watch.close();
  expect(await next).toBeUndefined();
});

test("two calls of next() at the same time are a bug of the caller", async () => {
  const watches = new StoreWatches(() => Promise.resolve(EMPTY));
  const watch = watches.open("");
  const first = watch.next();
  await expect(watch.next()).rejects.toThrow("before its previous call ended");
  await first;
});
