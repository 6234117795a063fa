import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { type FoundChanges, StoreWatches, type WatchPosition } from "../../../src/store/control/store-watches.ts";

const NOTHING: FoundChanges = { isReset: false, changes: [], revision: 5, isCurrent: true, storeRevision: 5 };
const SOMETHING: FoundChanges = { ...NOTHING, changes: [{ key: "a", version: 6, item: undefined }], revision: 6, storeRevision: 6 };

test("a wake-up that comes while a watch is reading is not lost", async () => {
  const answers = [NOTHING, SOMETHING];
  const watches: StoreWatches = new StoreWatches((_prefix, _position) => {
    watches.changed();
    return Promise.resolve(answers.shift() ?? NOTHING);
  });
  expect(await watches.open("", 5).next()).toMatchObject({ revision: 6 });
});

test("an error is the reader's to see, and the watch goes on from where it was", async () => {
  const positions: WatchPosition[] = [];
  let isFailing = true;
  const watches = new StoreWatches((_prefix, position) => {
    positions.push(position);
    return isFailing ? Promise.reject(new WaymarkError("store_unavailable", "the disk is away")) : Promise.resolve(SOMETHING);
  });
  const watch = watches.open("", 5);
  await expect(watch.next()).rejects.toMatchObject({ reason: "store_unavailable" });
  isFailing = false;
  expect(await watch.next()).toMatchObject({ revision: 6 });
  expect(positions[0]).toEqual(positions[1]);
});

test("a watch closed while it reads ends, whatever the store says", async () => {
  const watches = new StoreWatches(() => Promise.reject(new WaymarkError("store_unavailable", "closed")));
  const watch = watches.open("", 5);
  const next = watch.next();
  watch.close();
  expect(await next).toBeUndefined();
});

test("asking for the next changes twice at once is our own fault", () => {
  const watches = new StoreWatches(() => Promise.resolve(NOTHING));
  const watch = watches.open("", 5);
  void watch.next();
  expect(() => watch.next()).toThrow("before its previous call ended");
  watch.close();
});
