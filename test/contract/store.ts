/** The suite that every `ControlStore` passes: `store.ts` in prose is the contract, this is what it means. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ControlStore, MAX_KEY_LENGTH, MAX_VALUE_BYTES, type StoreBounds, type StoreWatch } from "../../src/store/control/store.ts";

/** How a kind of store is had: empty, within bounds, as small as the test wants them. */
export interface StoreUnderTest {
  readonly open: (bounds: StoreBounds) => Promise<ControlStore>;
  /** Histories compared with the model; each opens a store. */
  readonly runs: number;
}

const BOUNDS: StoreBounds = { maxItems: 1000, maxTotalBytes: 64 << 20, maxRemovals: 100 };

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(value: Uint8Array | undefined): string | undefined {
  return value === undefined ? undefined : new TextDecoder().decode(value);
}

/** All that a watch has to say up to now, as `+key=value@version` and `-key@version`. */
async function drain(watch: StoreWatch): Promise<readonly string[]> {
  const lines: string[] = [];
  for (;;) {
    const found = await watch.next();
    if (found === undefined) return [...lines, "closed"];
    if (found.isReset) lines.push("reset");
    for (const { key, version, item } of found.changes)
      lines.push(item === undefined ? `-${key}@${version}` : `+${key}=${textOf(item.value)}@${version}`);
    if (found.isCurrent) return lines;
  }
}

async function put(store: ControlStore, key: string, text: string): Promise<number> {
  const version = (await store.get(key))?.version ?? 0;
  const swap = await store.compareAndSwap(key, version, bytes(text));
  expect(swap.isSwapped).toBe(true);
  return swap.version;
}

export function storeContract(name: string, { open, runs }: StoreUnderTest): void {
  describe(`${name}: the contract of a store`, () => {
    swaps(open);
    lists(open);
    bounds(open);
    watches(open);
    resumes(open);
    model(open, runs);
  });
}

function swaps(open: StoreUnderTest["open"]): void {
  test("an item is there after a swap from 0, and versions are one growing sequence over all keys", async () => {
    await using store = await open(BOUNDS);
    expect(await store.get("a")).toBeUndefined();
    expect(await store.compareAndSwap("a", 0, bytes("one"))).toEqual({ isSwapped: true, version: 1 });
    expect(await store.compareAndSwap("b", 0, bytes(""))).toEqual({ isSwapped: true, version: 2 });
    expect(await store.compareAndSwap("a", 1, bytes("two"))).toEqual({ isSwapped: true, version: 3 });
    expect(await store.get("a")).toEqual({ key: "a", value: bytes("two"), version: 3 });
    expect(await store.get("b")).toEqual({ key: "b", value: bytes(""), version: 2 });
  });

  test("a swap from another version changes nothing and says which version there is", async () => {
    await using store = await open(BOUNDS);
    await put(store, "a", "one");
    expect(await store.compareAndSwap("a", 0, bytes("x"))).toEqual({ isSwapped: false, version: 1 });
    expect(await store.compareAndSwap("a", 7, undefined)).toEqual({ isSwapped: false, version: 1 });
    expect(await store.compareAndSwap("absent", 1, bytes("x"))).toEqual({ isSwapped: false, version: 0 });
    expect(textOf((await store.get("a"))?.value)).toBe("one");
  });

  test("a removal has a version of its own, and an item made again never has an old one", async () => {
    await using store = await open(BOUNDS);
    await put(store, "a", "one");
    expect(await store.compareAndSwap("a", 1, undefined)).toEqual({ isSwapped: true, version: 2 });
    expect(await store.get("a")).toBeUndefined();
    expect(await store.compareAndSwap("a", 2, bytes("x"))).toEqual({ isSwapped: false, version: 0 });
    expect(await store.compareAndSwap("a", 0, bytes("again"))).toEqual({ isSwapped: true, version: 3 });
    expect(await store.compareAndSwap("gone", 0, undefined)).toEqual({ isSwapped: true, version: 0 });
    expect((await store.list("")).revision).toBe(3);
  });

  test("of many who swap from the same version one wins, again and again", async () => {
    await using store = await open(BOUNDS);
    const rivals = 8;
    const rounds = 20;
    let wins = 0;
    const race = async (): Promise<void> => {
      for (let round = 0; round < rounds; ) {
        const version = (await store.get("counter"))?.version ?? 0;
        const count = Number(textOf((await store.get("counter"))?.value) ?? "0");
        const swap = await store.compareAndSwap("counter", version, bytes(`${count + 1}`));
        if (!swap.isSwapped) continue;
        wins++;
        round++;
      }
    };
    await Promise.all(Array.from({ length: rivals }, race));
    expect(wins).toBe(rivals * rounds);
    // A count read after the version may be newer than it, never older: then the swap is refused, and no step is lost.
    expect(textOf((await store.get("counter"))?.value)).toBe(`${rivals * rounds}`);
    expect((await store.get("counter"))?.version).toBe(rivals * rounds);
  });

  test("the value is the caller's own again once a swap was asked for", async () => {
    await using store = await open(BOUNDS);
    const value = bytes("kept");
    const swapped = store.compareAndSwap("a", 0, value);
    value.fill(0);
    await swapped;
    expect(textOf((await store.get("a"))?.value)).toBe("kept");
  });
}

function lists(open: StoreUnderTest["open"]): void {
  test("a list gives the items below a prefix by key, page by page, and nothing beside it", async () => {
    await using store = await open(BOUNDS);
    const keys = ["p/b", "p/a", "p/~", "p", "q", "p/!", "o/z", "p/B"];
    for (const key of keys) await put(store, key, key);
    await store.compareAndSwap("p/b", 1, undefined);
    const found: string[] = [];
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page = await store.list("p/", { after, limit: 2 });
      expect(page.items.length).toBeLessThanOrEqual(2);
      expect(page.revision).toBe(keys.length + 1);
      found.push(...page.items.map(({ key, value }) => `${key}=${textOf(value)}`));
      after = page.nextAfter;
    }
    expect(found).toEqual(["p/!=p/!", "p/B=p/B", "p/a=p/a", "p/~=p/~"]);
    expect((await store.list("nothing")).items).toEqual([]);
    expect((await store.list("")).items).toHaveLength(keys.length - 1);
  });

  test("characters that mean something to a database mean nothing in a key or prefix", async () => {
    await using store = await open(BOUNDS);
    for (const key of ["a%", "a_", "ab", "a'", 'a"', "a*", "a;--"]) await put(store, key, key);
    expect((await store.list("a%")).items.map(({ key }) => key)).toEqual(["a%"]);
    expect((await store.list("a_")).items.map(({ key }) => key)).toEqual(["a_"]);
    expect((await store.get("a;--"))?.key).toBe("a;--");
  });
}

function bounds(open: StoreUnderTest["open"]): void {
  test.each(["", "k".repeat(MAX_KEY_LENGTH + 1), "with space", "tab\t", "snow☃", "nul\0"])("the key %j is refused", async (key) => {
    await using store = await open(BOUNDS);
    await expect(store.get(key)).rejects.toMatchObject({ reason: "invalid_argument" });
    await expect(store.compareAndSwap(key, 0, bytes("x"))).rejects.toMatchObject({ reason: "invalid_argument" });
    if (key !== "") await expect(store.list(key)).rejects.toMatchObject({ reason: "invalid_argument" });
    expect((await store.list("")).revision).toBe(0);
  });

  test.each([0, -1, 1.5, 1001, Number.NaN])("a list of %d items a page is refused", async (limit) => {
    await using store = await open(BOUNDS);
    await expect(store.list("", { limit })).rejects.toMatchObject({ reason: "invalid_argument" });
  });

  test("a key of 512 characters and a value of 16 MiB are kept; one byte more is refused", async () => {
    await using store = await open({ ...BOUNDS, maxTotalBytes: 40 << 20 });
    const key = "k".repeat(MAX_KEY_LENGTH);
    const value = new Uint8Array(MAX_VALUE_BYTES).fill(7);
    expect(await store.compareAndSwap(key, 0, value)).toEqual({ isSwapped: true, version: 1 });
    expect(Buffer.compare((await store.get(key))?.value ?? bytes(""), value)).toBe(0);
    const larger = new Uint8Array(MAX_VALUE_BYTES + 1);
    await expect(store.compareAndSwap(key, 1, larger)).rejects.toMatchObject({ reason: "quota_exceeded" });
    expect((await store.get(key))?.version).toBe(1);
    await store.compareAndSwap("second", 0, value);
    // Both do not fit one page, and each page has at least one.
    expect((await store.list("", { limit: 10 })).nextAfter).toBe(key);
    await expect(store.compareAndSwap("third", 0, value)).rejects.toMatchObject({ reason: "quota_exceeded" });
  });

  test("a full store refuses another item, takes a change of one it has, and has room again after a removal", async () => {
    await using store = await open({ ...BOUNDS, maxItems: 2 });
    await put(store, "a", "1");
    await put(store, "b", "2");
    await expect(store.compareAndSwap("c", 0, bytes("3"))).rejects.toMatchObject({ reason: "quota_exceeded" });
    await put(store, "b", "22");
    await store.compareAndSwap("a", 1, undefined);
    await put(store, "c", "3");
    expect((await store.list("")).items.map(({ key }) => key)).toEqual(["b", "c"]);
  });

  test("bytes are counted over keys and values, and freed by what a swap replaces", async () => {
    await using store = await open({ ...BOUNDS, maxTotalBytes: 10 });
    await put(store, "a", "123456789");
    await expect(store.compareAndSwap("b", 0, bytes(""))).rejects.toMatchObject({ reason: "quota_exceeded" });
    await put(store, "a", "987654321");
    await put(store, "a", "1");
    await put(store, "b", "1234567");
  });
}

function watches(open: StoreUnderTest["open"]): void {
  test("a watch from 0 starts with what there is, and then tells each change in order of version", async () => {
    await using store = await open(BOUNDS);
    await put(store, "p/b", "1");
    await put(store, "p/a", "2");
    await put(store, "other", "3");
    using watch = store.watch("p/", 0);
    expect(await drain(watch)).toEqual(["reset", "+p/b=1@1", "+p/a=2@2"]);
    const next = watch.next();
    await put(store, "other", "4");
    await put(store, "p/a", "5");
    expect((await next)?.changes.map(({ key, version }) => `${key}@${version}`)).toEqual(["p/a@5"]);
    await put(store, "p/a", "6");
    await store.compareAndSwap("p/b", 1, undefined);
    expect(await drain(watch)).toEqual(["+p/a=6@6", "-p/b@7"]);
  });

  test("a watch of an empty store says so once, then waits", async () => {
    await using store = await open(BOUNDS);
    using watch = store.watch("", 0);
    expect(await watch.next()).toEqual({ isReset: true, changes: [], revision: 0, isCurrent: true });
    const next = watch.next();
    await put(store, "a", "1");
    expect(await next).toMatchObject({ isReset: false, revision: 1, isCurrent: true });
  });

  test("changes of one key between two looks arrive as the newest alone", async () => {
    await using store = await open(BOUNDS);
    using watch = store.watch("", 0);
    await drain(watch);
    for (const text of ["1", "2", "3"]) await put(store, "a", text);
    expect(await drain(watch)).toEqual(["+a=3@3"]);
  });

  test("more than a page arrives in pages, and what changes meanwhile is not missed", async () => {
    await using store = await open({ ...BOUNDS, maxItems: 3000 });
    await Promise.all(Array.from({ length: 1500 }, (_, i) => store.compareAndSwap(`k${i}`, 0, bytes(""))));
    using watch = store.watch("", 0);
    const first = await watch.next();
    expect(first).toMatchObject({ isReset: true, isCurrent: false });
    expect(first?.changes).toHaveLength(1000);
    await put(store, "k0", "changed");
    await store.compareAndSwap("k1", 2, undefined);
    const rest = await drain(watch);
    expect(rest).toHaveLength(502);
    expect(rest.slice(-2)).toEqual(["+k0=changed@1501", "-k1@1502"]);
  });

  test("a closed watch ends, also one that waits; closing the store closes them all", async () => {
    await using store = await open(BOUNDS);
    const watch = store.watch("", 0);
    await drain(watch);
    const next = watch.next();
    watch.close();
    expect(await next).toBeUndefined();
    expect(await watch.next()).toBeUndefined();
    const other = store.watch("", 0);
    await drain(other);
    const last = other.next();
    await store.close();
    expect(await last).toBeUndefined();
  });

  test("a closed store answers with store_unavailable, and closing twice is one closing", async () => {
    const store = await open(BOUNDS);
    await store.close();
    await store.close();
    await expect(store.get("a")).rejects.toMatchObject({ reason: "store_unavailable" });
    await expect(store.list("")).rejects.toMatchObject({ reason: "store_unavailable" });
    await expect(store.compareAndSwap("a", 0, bytes("x"))).rejects.toMatchObject({ reason: "store_unavailable" });
  });
}

function resumes(open: StoreUnderTest["open"]): void {
  test("a watch resumes after a revision without repeating or missing anything, removals included", async () => {
    await using store = await open(BOUNDS);
    await put(store, "a", "1");
    await put(store, "b", "2");
    const { revision } = await store.list("");
    await put(store, "c", "3");
    await store.compareAndSwap("a", 1, undefined);
    using watch = store.watch("", revision);
    expect(await drain(watch)).toEqual(["+c=3@3", "-a@4"]);
  });

  test("a revision that the store never reached starts over", async () => {
    await using store = await open(BOUNDS);
    await put(store, "a", "1");
    using watch = store.watch("", 99);
    expect(await drain(watch)).toEqual(["reset", "+a=1@1"]);
  });

  test("a watch that is behind the removals the store remembers starts over; one that is not goes on", async () => {
    await using store = await open({ ...BOUNDS, maxRemovals: 2 });
    for (const key of ["a", "b", "c", "d"]) await put(store, key, key);
    for (const [at, key] of ["a", "b", "c"].entries()) await store.compareAndSwap(key, at + 1, undefined);
    using behind = store.watch("", 4);
    expect(await drain(behind)).toEqual(["reset", "+d=d@4"]);
    using inside = store.watch("", 5);
    expect(await drain(inside)).toEqual(["-b@6", "-c@7"]);
  });

  test("a watch in the middle of its first pages starts over when a removal is forgotten that it would have to tell", async () => {
    await using store = await open({ maxItems: 3000, maxTotalBytes: 1 << 20, maxRemovals: 1 });
    await Promise.all(Array.from({ length: 1500 }, (_, i) => store.compareAndSwap(`k${i}`, 0, bytes(""))));
    using watch = store.watch("", 0);
    await watch.next();
    await store.compareAndSwap("k0", 1, undefined);
    await store.compareAndSwap("k1", 2, undefined);
    expect(await watch.next()).toMatchObject({ isReset: true, isCurrent: false });
    expect(await drain(watch)).toHaveLength(499);
  });
}

type Step =
  | { readonly kind: "put"; readonly key: string }
  | { readonly kind: "remove"; readonly key: string }
  | { readonly kind: "look" }
  | { readonly kind: "resume" };

function model(open: StoreUnderTest["open"], numRuns: number): void {
  const key = fc.constantFrom("a", "b", "p/a", "p/b", "p/c");
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constant("put" as const), key }),
    fc.record({ kind: fc.constant("remove" as const), key }),
    fc.record({ kind: fc.constant("look" as const) }),
    fc.record({ kind: fc.constant("resume" as const) }),
  );

  test("whoever folds a watch, from whatever revision it resumes, has what the store has", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await using store = await open({ ...BOUNDS, maxRemovals: 2 });
        const folded = new Map<string, string>();
        let revision = 0;
        let watch = store.watch("p/", 0);
        const look = async (): Promise<void> => {
          // Nothing new would be waited for: a change of our own ends the wait.
          await put(store, "p/tick", `${Math.random()}`);
          for (let isCurrent = false; !isCurrent; ) {
            const found = await watch.next();
            if (found === undefined) throw new Error("the watch ended");
            ({ isCurrent, revision } = found);
            if (found.isReset) folded.clear();
            for (const { key: changed, item } of found.changes) {
              if (item === undefined) folded.delete(changed);
              else folded.set(changed, textOf(item.value) ?? "");
            }
          }
        };
        for (const [at, each] of steps.entries()) {
          if (each.kind === "put") await put(store, each.key, `${at}`);
          if (each.kind === "remove") await store.compareAndSwap(each.key, (await store.get(each.key))?.version ?? 0, undefined);
          if (each.kind === "resume") {
            watch.close();
            watch = store.watch("p/", revision);
          }
          if (each.kind === "look") await look();
        }
        await look();
        const held = (await store.list("p/")).items.map((item) => [item.key, textOf(item.value)] as const);
        expect(new Map(folded)).toEqual(new Map(held));
      }),
      { numRuns },
    );
  });
}
