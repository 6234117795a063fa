/**
 * The test suite for every `ControlStore`. The contract is in `store.ts`. The suite does not assume that revisions are consecutive, because other
 * programs may write to the same store.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { allItems } from "../../src/store/control/all-items.io.ts";
import {
  type ControlStore,
  MAX_KEY_LENGTH,
  MAX_PAGE_BYTES,
  MAX_PAGE_ITEMS,
  MAX_TRANSACTION_ITEMS,
  type StoreBounds,
  type StoreChanges,
  type StoreCondition,
  type StoreWatch,
  type StoreWrite,
} from "../../src/store/control/store.ts";

/** A kind of store, and how it differs from other kinds. */
export interface StoreUnderTest {
  /** Opens an empty store. */
  readonly open: (bounds: StoreBounds) => Promise<ControlStore>;
  /** The number of generated histories. Each history opens a store. */
  readonly runs: number;
  readonly maxValueBytes: number;
  /** Whether the store enforces `maxItems` and `maxTotalBytes`. */
  readonly hasBounds: boolean;
}

type Open = StoreUnderTest["open"];

const BOUNDS: StoreBounds = { maxItems: 1000, maxTotalBytes: 64 << 20 };

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(value: Uint8Array | undefined): string | undefined {
  return value === undefined ? undefined : new TextDecoder().decode(value);
}

/** A change of a transaction: `a=text` puts an item, and `-a` removes it. */
function write(text: string): StoreWrite {
  const [key = "", value = ""] = text.split("=");
  return key.startsWith("-") ? { key: key.slice(1), value: undefined } : { key, value: bytes(value) };
}

/** The items of a store, as `key=value@version`. */
async function itemsOf(store: ControlStore): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const { key, value, version } of allItems(store, "")) lines.push(`${key}=${textOf(value)}@${version}`);
  return lines;
}

function linesOf({ isReset, changes }: StoreChanges): readonly string[] {
  const lines = changes.map(({ key, version, item }) =>
    item === undefined ? `-${key}@${version}` : `+${key}=${textOf(item.value)}@${version}`,
  );
  return isReset ? ["reset", ...lines] : lines;
}

/** Reads a watch up to the revision `last` of the last change under its prefix. Returns `reset`, `+key=value@version` and `-key@version`. */
async function drain(watch: StoreWatch, last: number): Promise<readonly string[]> {
  const lines: string[] = [];
  for (;;) {
    const found = await watch.next();
    if (found === undefined) return [...lines, "closed"];
    const versions = found.changes.map(({ version }) => version);
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    lines.push(...linesOf(found));
    if (found.isCurrent && found.revision >= last) return lines;
  }
}

/** Puts an item whatever its version is, and returns the new version. */
async function put(store: ControlStore, key: string, text: string): Promise<number> {
  const version = (await store.get(key))?.version ?? 0;
  const swap = await store.compareAndSwap(key, version, bytes(text));
  expect(swap.isSwapped).toBe(true);
  return swap.version;
}

/** Puts new items without content, and returns their versions. */
async function fill(store: ControlStore, keys: readonly string[]): Promise<readonly number[]> {
  const versions: number[] = [];
  for (let at = 0; at < keys.length; at += MAX_TRANSACTION_ITEMS) {
    const changes = keys.slice(at, at + MAX_TRANSACTION_ITEMS).map((key) => write(`${key}=`));
    versions.push(...(await store.transact([], changes)).versions);
  }
  return versions;
}

export function storeContract(name: string, kind: StoreUnderTest): void {
  const { open } = kind;
  describe(`${name}: the contract of a store`, () => {
    swaps(open);
    transactions(open);
    visibleTransactions(open);
    refusals(kind);
    lists(open);
    if (kind.hasBounds) bounds(open);
    watches(open);
    closing(open);
    slowReaders(open);
    model(kind);
  });
}

function swaps(open: Open): void {
  test("an item exists after a swap from 0, and versions grow over all keys", async () => {
    await using store = await open(BOUNDS);
    expect(await store.get("a")).toBeUndefined();
    const first = await store.compareAndSwap("a", 0, bytes("one"));
    const other = await store.compareAndSwap("b", 0, bytes(""));
    const second = await store.compareAndSwap("a", first.version, bytes("two"));
    expect([first, other, second].map(({ isSwapped }) => isSwapped)).toEqual([true, true, true]);
    expect(0 < first.version && first.version < other.version && other.version < second.version).toBe(true);
    expect(await store.get("a")).toEqual({ key: "a", value: bytes("two"), version: second.version });
    expect(await store.get("b")).toEqual({ key: "b", value: bytes(""), version: other.version });
  });

  test("a swap from another version changes nothing and returns the present version", async () => {
    await using store = await open(BOUNDS);
    const version = await put(store, "a", "one");
    expect(await store.compareAndSwap("a", 0, bytes("x"))).toEqual({ isSwapped: false, version });
    expect(await store.compareAndSwap("a", version + 1, undefined)).toEqual({ isSwapped: false, version });
    expect(await store.compareAndSwap("absent", 1, bytes("x"))).toEqual({ isSwapped: false, version: 0 });
    expect(textOf((await store.get("a"))?.value)).toBe("one");
  });

  test("a removal has its own revision, and an item that is created again never has an earlier version", async () => {
    await using store = await open(BOUNDS);
    const version = await put(store, "a", "one");
    const removal = await store.compareAndSwap("a", version, undefined);
    expect(removal.isSwapped).toBe(true);
    expect(removal.version).toBeGreaterThan(version);
    expect(await store.get("a")).toBeUndefined();
    expect(await store.compareAndSwap("a", removal.version, bytes("x"))).toEqual({ isSwapped: false, version: 0 });
    expect(await store.compareAndSwap("absent", 0, undefined)).toEqual({ isSwapped: true, version: 0 });
    const next = await store.compareAndSwap("a", 0, bytes("again"));
    expect(next.version).toBeGreaterThan(removal.version);
    expect((await store.list("")).revision).toBeGreaterThanOrEqual(next.version);
  });

  test("of many clients that swap from the same version, exactly one succeeds each time", async () => {
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
    // A count that is read after the version can be newer than it, never older. If it is newer, the swap is refused, and no step is lost.
    expect(textOf((await store.get("counter"))?.value)).toBe(`${rivals * rounds}`);
  });

  test("the caller can change the bytes of a value after the call", async () => {
    await using store = await open(BOUNDS);
    const [one, two] = [bytes("kept"), bytes("kept")];
    const requests = [store.compareAndSwap("a", 0, one), store.transact([], [{ key: "b", value: two }])];
    for (const value of [one, two]) value.fill(0);
    await Promise.all(requests);
    expect((await store.list("")).items.map(({ value }) => textOf(value))).toEqual(["kept", "kept"]);
  });
}

function transactions(open: Open): void {
  test("if each condition holds, all changes happen, and the answer has the new version of each changed item", async () => {
    await using store = await open(BOUNDS);
    const [a, b] = [await put(store, "a", "1"), await put(store, "b", "1")];
    const conditions = [
      { key: "a", version: a },
      { key: "c", version: 0 },
      { key: "guard", version: 0 },
      { key: "a", version: a },
    ];
    const { isCommitted, revision, versions } = await store.transact(conditions, ["a=2", "-b", "-absent", "c=1"].map(write));
    expect(isCommitted).toBe(true);
    const [newA = 0, removedB = 0, absent, newC = 0] = versions;
    expect([versions.length, absent]).toEqual([4, 0]);
    // Changes of one transaction may share a revision.
    expect(b < newA && newA <= removedB && removedB <= newC && newC <= revision).toBe(true);
    expect(await itemsOf(store)).toEqual([`a=2@${newA}`, `c=1@${newC}`]);
    expect(await store.compareAndSwap("a", newA, bytes("3"))).toMatchObject({ isSwapped: true });
  });

  test("a transaction without conditions happens whatever the items are", async () => {
    await using store = await open(BOUNDS);
    await put(store, "a", "1");
    const { isCommitted, versions } = await store.transact([], [write("a=2"), write("b=2")]);
    expect(isCommitted).toBe(true);
    expect(await itemsOf(store)).toEqual([`a=2@${versions[0]}`, `b=2@${versions[1]}`]);
  });

  test("a transaction that removes only absent items has no effect", async () => {
    await using store = await open(BOUNDS);
    const version = await put(store, "a", "1");
    expect(await store.transact([{ key: "a", version }], [write("-b"), write("-c")])).toMatchObject({
      isCommitted: true,
      versions: [0, 0],
    });
    expect(await itemsOf(store)).toEqual([`a=1@${version}`]);
  });

  test.each([
    { what: "the only one", conditions: ["a other"] },
    { what: "the last one", conditions: ["a present", "b present", "c other"] },
    { what: "the first one", conditions: ["a absent", "b present"] },
    { what: "one for an absent item", conditions: ["c other", "a present"] },
    { what: "one for an item that is not changed", conditions: ["a present", "guard other"] },
    { what: "one of two for the same item", conditions: ["a present", "a other"] },
  ])("if a condition does not hold ($what), nothing changes, and the answer has the present versions", async ({ conditions }) => {
    await using store = await open(BOUNDS);
    const [a, b, guard] = await fill(store, ["a", "b", "guard"]);
    const present: Readonly<Record<string, number | undefined>> = { a, b, guard };
    const before = await itemsOf(store);
    const last = await put(store, "last", "1");
    using watch = store.watch("");
    await drain(watch, last);
    const named = conditions.map((condition) => {
      const [key = "", expected] = condition.split(" ");
      return { key, version: expected === "absent" ? 0 : (present[key] ?? 0) + Number(expected === "other") };
    });
    const result = await store.transact(named, ["a=2", "-b", "c=2"].map(write));
    expect(result).toMatchObject({ isCommitted: false, versions: named.map(({ key }) => present[key] ?? 0) });
    expect(result.revision).toBeGreaterThanOrEqual(last);
    expect(await itemsOf(store)).toEqual([...before, `last=1@${last}`]);
    const next = await put(store, "d", "3");
    expect(await drain(watch, next)).toEqual([`+d=3@${next}`]);
  });
}

function visibleTransactions(open: Open): void {
  const pair = (n: number): readonly StoreWrite[] => [write(`p/a=${n}`), write(`p/b=${n}`)];

  test("a list shows all changes of a transaction or none", async () => {
    await using store = await open(BOUNDS);
    for (let n = 0; n < 20; n++) {
      const [, page, later] = await Promise.all([store.transact([], pair(n)), store.list("p/"), store.list("p/")]);
      for (const { items } of [page, later]) {
        expect([0, 2]).toContain(items.length);
        expect(textOf(items[0]?.value)).toBe(textOf(items[1]?.value));
      }
    }
  });

  test("a watch reports all changes of a transaction in one step", async () => {
    await using store = await open(BOUNDS);
    using watch = store.watch("p/");
    await drain(watch, 0);
    const requests = Array.from({ length: 20 }, (_, n) => store.transact([], pair(n)));
    const last = Promise.all(requests).then((results) => Math.max(...results.map(({ revision }) => revision)));
    let revision = 0;
    while (revision < (await last)) {
      const found = await watch.next();
      const newest = new Map(found?.changes.map(({ key, item }) => [key, textOf(item?.value)]));
      expect(newest.get("p/a")).toBe(newest.get("p/b"));
      revision = found?.revision ?? 0;
    }
    expect(revision).toBe(await last);
  });
}

const KEYS_OVER = Array.from({ length: MAX_TRANSACTION_ITEMS + 1 }, (_, at) => `k${at}`);

const BAD_TRANSACTIONS: readonly {
  readonly what: string;
  readonly conditions?: readonly StoreCondition[];
  readonly changes: readonly StoreWrite[];
}[] = [
  { what: "no change", changes: [] },
  { what: "101 changes", changes: KEYS_OVER.map((key) => write(`${key}=`)) },
  { what: "101 conditions", conditions: KEYS_OVER.map((key) => ({ key, version: 0 })), changes: [write("b=2")] },
  { what: "two changes of one key", changes: [write("b=2"), write("a=2"), write("-b")] },
  { what: "an invalid key in a change", changes: [write("b=2"), write("with space=2")] },
  { what: "an invalid key in a condition", conditions: [{ key: "", version: 0 }], changes: [write("b=2")] },
];

function refusals({ open, maxValueBytes }: StoreUnderTest): void {
  test.each(["", "k".repeat(MAX_KEY_LENGTH + 1), "with space", "tab\t", "snow☃", "nul\0"])("the key %j is refused", async (key) => {
    await using store = await open(BOUNDS);
    await expect(store.get(key)).rejects.toMatchObject({ reason: "invalid_argument" });
    await expect(store.compareAndSwap(key, 0, bytes("x"))).rejects.toMatchObject({ reason: "invalid_argument" });
    if (key !== "") await expect(store.list(key)).rejects.toMatchObject({ reason: "invalid_argument" });
    expect(await itemsOf(store)).toEqual([]);
  });

  test.each([0, -1, 1.5, MAX_PAGE_ITEMS + 1, Number.NaN])("a list of %d items per page is refused", async (limit) => {
    await using store = await open(BOUNDS);
    await expect(store.list("", { limit })).rejects.toMatchObject({ reason: "invalid_argument" });
  });

  test.each(BAD_TRANSACTIONS)("a transaction with $what is refused without a change", async ({ conditions = [], changes }) => {
    await using store = await open(BOUNDS);
    const version = await put(store, "a", "1");
    await expect(store.transact(conditions, changes)).rejects.toMatchObject({ reason: "invalid_argument" });
    expect(await itemsOf(store)).toEqual([`a=1@${version}`]);
  });

  test("a transaction with 100 conditions and 100 changes is accepted", async () => {
    await using store = await open(BOUNDS);
    const keys = KEYS_OVER.slice(0, MAX_TRANSACTION_ITEMS);
    const conditions = keys.map((key) => ({ key, version: 0 }));
    const changes = keys.map((key) => write(`${key}=x`));
    const { isCommitted, versions } = await store.transact(conditions, changes);
    expect(isCommitted).toBe(true);
    expect((await store.list("")).items.map(({ version }) => version).toSorted((a, b) => a - b)).toEqual(versions);
  });

  test("a key of 512 characters and the largest value are stored, and a value with one more byte is refused", async () => {
    await using store = await open(BOUNDS);
    const key = "k".repeat(MAX_KEY_LENGTH);
    const value = new Uint8Array(maxValueBytes).fill(7);
    const { version } = await store.compareAndSwap(key, 0, value);
    expect(Buffer.compare((await store.get(key))?.value ?? bytes(""), value)).toBe(0);
    const larger = { key, value: new Uint8Array(maxValueBytes + 1) };
    await expect(store.compareAndSwap(key, version, larger.value)).rejects.toMatchObject({ reason: "quota_exceeded" });
    await expect(store.transact([], [write("small=x"), larger])).rejects.toMatchObject({ reason: "quota_exceeded" });
    expect((await store.list("")).items.map((item) => [item.key, item.version])).toEqual([[key, version]]);
  });

  test("a page ends before its values exceed the limit, and has at least one item", async () => {
    await using store = await open(BOUNDS);
    const value = new Uint8Array(maxValueBytes);
    const perPage = Math.floor(MAX_PAGE_BYTES / maxValueBytes);
    const keys = Array.from({ length: perPage + 1 }, (_, at) => `k${at + 10}`);
    for (const key of keys) await store.compareAndSwap(key, 0, value);
    const page = await store.list("");
    expect(page.items.map(({ key }) => key)).toEqual(keys.slice(0, perPage));
    expect(page.nextAfter).toBe(keys.at(-2));
  });
}

function lists(open: Open): void {
  test("a list returns the items with a prefix by key, page by page, and no others", async () => {
    await using store = await open(BOUNDS);
    const keys = ["p/b", "p/a", "p/~", "p", "q", "p/!", "o/z", "p/B"];
    let last = 0;
    for (const key of keys) last = await put(store, key, key);
    await store.transact([], [write("-p/b")]);
    const found: string[] = [];
    for (let after: string | undefined = ""; after !== undefined; ) {
      const page = await store.list("p/", { after, limit: 2 });
      expect(page.items.length).toBeLessThanOrEqual(2);
      expect(page.revision).toBeGreaterThan(last);
      found.push(...page.items.map(({ key, value }) => `${key}=${textOf(value)}`));
      after = page.nextAfter;
    }
    expect(found).toEqual(["p/!=p/!", "p/B=p/B", "p/a=p/a", "p/~=p/~"]);
    expect((await store.list("nothing")).items).toEqual([]);
    expect((await store.list("")).items).toHaveLength(keys.length - 1);
  });

  test("characters with a meaning in a database have no meaning in a key or prefix", async () => {
    await using store = await open(BOUNDS);
    for (const key of ["a%", "a_", "ab", "a'", 'a"', "a*", "a;--"]) await put(store, key, key);
    expect((await store.list("a%")).items.map(({ key }) => key)).toEqual(["a%"]);
    expect((await store.list("a_")).items.map(({ key }) => key)).toEqual(["a_"]);
    expect((await store.get("a;--"))?.key).toBe("a;--");
  });
}

function bounds(open: Open): void {
  test("a full store refuses another item, accepts a change of an item, and has room again after a removal", async () => {
    await using store = await open({ ...BOUNDS, maxItems: 2 });
    await put(store, "a", "1");
    await put(store, "b", "2");
    await expect(store.compareAndSwap("c", 0, bytes("3"))).rejects.toMatchObject({ reason: "quota_exceeded" });
    await put(store, "b", "22");
    await store.transact([], [write("-a")]);
    await put(store, "c", "3");
    expect((await store.list("")).items.map(({ key }) => key)).toEqual(["b", "c"]);
  });

  test("bytes are counted over keys and values, and are freed by a swap that replaces a value", async () => {
    await using store = await open({ ...BOUNDS, maxTotalBytes: 10 });
    await put(store, "a", "123456789");
    await expect(store.compareAndSwap("b", 0, bytes(""))).rejects.toMatchObject({ reason: "quota_exceeded" });
    await put(store, "a", "987654321");
    await put(store, "a", "1");
    await put(store, "b", "1234567");
  });

  test.each<{ readonly changes: readonly string[]; readonly isRefused?: true }>([
    { changes: ["c=", "-a"] },
    { changes: ["-a", "c="] },
    { changes: ["c=", "d=", "-a"], isRefused: true },
    { changes: ["a=1234567", "b="] },
    { changes: ["b=", "a=1234567"] },
    { changes: ["a=12345678", "b="], isRefused: true },
    { changes: ["-b", "c=1234", "a=12"] },
    { changes: ["-b", "c=1234", "a=1234"], isRefused: true },
  ])("the bounds apply to the sum of the changes $changes, and nothing is written if it does not fit", async ({ changes, isRefused }) => {
    await using store = await open({ ...BOUNDS, maxItems: 2, maxTotalBytes: 9 });
    await store.transact([], ["a=123", "b=1234"].map(write));
    const before = await itemsOf(store);
    const request = store.transact([], changes.map(write));
    if (isRefused) await expect(request).rejects.toMatchObject({ reason: "quota_exceeded" });
    else expect(await request).toMatchObject({ isCommitted: true });
    expect((await itemsOf(store)).join() === before.join()).toBe(isRefused ?? false);
  });
}

function watches(open: Open): void {
  test("a watch from 0 starts with all items, and then reports each change in the order of versions", async () => {
    await using store = await open(BOUNDS);
    const b = await put(store, "p/b", "1");
    const a = await put(store, "p/a", "2");
    await put(store, "other", "3");
    using watch = store.watch("p/");
    expect(await drain(watch, a)).toEqual(["reset", `+p/b=1@${b}`, `+p/a=2@${a}`]);
    const next = watch.next();
    await put(store, "other", "4");
    const second = await put(store, "p/a", "5");
    expect((await next)?.changes.map(({ key, version }) => `${key}@${version}`)).toEqual([`p/a@${second}`]);
    const third = await put(store, "p/a", "6");
    const removal = await store.compareAndSwap("p/b", b, undefined);
    expect(await drain(watch, removal.version)).toEqual([`+p/a=6@${third}`, `-p/b@${removal.version}`]);
  });

  test("a watch of an empty store reports this once, and then waits", async () => {
    await using store = await open(BOUNDS);
    using watch = store.watch("");
    expect(await watch.next()).toMatchObject({ isReset: true, changes: [], isCurrent: true });
    const next = watch.next();
    const version = await put(store, "a", "1");
    expect(await next).toMatchObject({ isReset: false, changes: [{ key: "a", version }], isCurrent: true });
  });

  test("the newest change of a key is the last one that a watch reports", async () => {
    await using store = await open(BOUNDS);
    using watch = store.watch("");
    await drain(watch, 0);
    let last = 0;
    for (const text of ["1", "2", "3"]) last = await put(store, "a", text);
    expect((await drain(watch, last)).at(-1)).toBe(`+a=3@${last}`);
  });

  test("more than one page is reported in pages, and later changes are not missed", async () => {
    await using store = await open({ ...BOUNDS, maxItems: 3000 });
    const filled = await fill(
      store,
      Array.from({ length: 1500 }, (_, at) => `k${at}`),
    );
    using watch = store.watch("");
    const first = await watch.next();
    expect(first).toMatchObject({ isReset: true, isCurrent: false });
    expect(first?.changes).toHaveLength(MAX_PAGE_ITEMS);
    const changed = await put(store, "k0", "changed");
    const removal = await store.compareAndSwap("k1", filled[1] ?? 0, undefined);
    const rest = await drain(watch, removal.version);
    expect(rest).toHaveLength(502);
    expect(rest.slice(-2)).toEqual([`+k0=changed@${changed}`, `-k1@${removal.version}`]);
  });
}

function closing(open: Open): void {
  test("a closed watch ends, even while it waits, and closing the store closes all watches", async () => {
    await using store = await open(BOUNDS);
    const watch = store.watch("");
    await drain(watch, 0);
    const next = watch.next();
    watch.close();
    expect(await next).toBeUndefined();
    expect(await watch.next()).toBeUndefined();
    const other = store.watch("");
    await drain(other, 0);
    const last = other.next();
    await store.close();
    expect(await last).toBeUndefined();
  });

  test("a closed store rejects every request with store_unavailable, and can be closed twice", async () => {
    const store = await open(BOUNDS);
    await store.close();
    await store.close();
    await expect(store.get("a")).rejects.toMatchObject({ reason: "store_unavailable" });
    await expect(store.list("")).rejects.toMatchObject({ reason: "store_unavailable" });
    await expect(store.compareAndSwap("a", 0, bytes("x"))).rejects.toMatchObject({ reason: "store_unavailable" });
    await expect(store.transact([], [write("a=x")])).rejects.toMatchObject({ reason: "store_unavailable" });
    await expect(store.compact(1)).rejects.toMatchObject({ reason: "store_unavailable" });
  });
}

/** Reads a watch up to a revision as `drain`, and returns the items that its reader then has, as `key=value@version`. */
async function fold(watch: StoreWatch, last: number, first: StoreChanges | undefined): Promise<readonly string[]> {
  const lines = [...(first === undefined ? [] : linesOf(first)), ...(await drain(watch, last))];
  const items = new Map<string, string>();
  for (const line of lines.slice(lines.lastIndexOf("reset") + 1)) {
    const key = line.slice(1).split(/[=@]/)[0] ?? "";
    if (line.startsWith("+")) items.set(key, line.slice(1));
    else items.delete(key);
  }
  return [...items.keys()].toSorted().map((key) => items.get(key) ?? "");
}

function slowReaders(open: Open): void {
  const keys = Array.from({ length: 1500 }, (_, at) => `k${at}`);

  test("a reader has the items of the store, although changes were forgotten while it read its first pages", async () => {
    await using store = await open({ ...BOUNDS, maxItems: 3000 });
    await fill(store, keys);
    using watch = store.watch("");
    const first = await watch.next();
    const { revision } = await store.transact([], ["-k0", "-k1499", "-k500", "k1=2"].map(write));
    await store.compact(revision);
    const last = await put(store, "z", "3");
    expect(await fold(watch, last, first)).toEqual(await itemsOf(store));
  });

  test("a reader that is many changes behind has the items of the store in the end", async () => {
    await using store = await open({ ...BOUNDS, maxItems: 3000 });
    await put(store, "k1", "1");
    await put(store, "removed", "1");
    using watch = store.watch("");
    const first = await watch.next();
    await store.transact([], ["-removed", "-k1"].map(write));
    await fill(store, keys);
    const last = await put(store, "k1", "2");
    expect(await fold(watch, last, first)).toEqual(await itemsOf(store));
    const next = await put(store, "k2", "3");
    expect(await drain(watch, next)).toEqual([`+k2=3@${next}`]);
  });
}

interface TransactStep {
  readonly kind: "transact";
  readonly conditions: readonly { readonly key: string; readonly lag: number }[];
  readonly changes: readonly { readonly key: string; readonly isRemoval: boolean }[];
}

type Step = TransactStep | { readonly kind: "look" | "open" | "compact" };

/** A store, the items that it must have, and the items that a reader has received through a watch. */
interface StoreHistory {
  readonly store: ControlStore;
  readonly items: Map<string, { readonly text: string; readonly version: number }>;
  readonly received: Map<string, string>;
  watch: StoreWatch;
  /** The revision that the watch has reached. */
  position: number;
  /** The newest version that the store has returned. */
  newest: number;
}

function expectedVersion({ items }: StoreHistory, key: string): number {
  return items.get(key)?.version ?? 0;
}

function expectedLines({ items }: StoreHistory, prefix: string): ReadonlyMap<string, string> {
  const found = [...items].filter(([key]) => key.startsWith(prefix));
  return new Map(found.map(([key, { text, version }]) => [key, `${text}@${version}`]));
}

/** Makes a transaction in the store and in the model, and compares the answer. */
async function transactBoth(history: StoreHistory, { conditions, changes }: Omit<TransactStep, "kind">, text: string): Promise<void> {
  const named = conditions.map(({ key, lag }) => ({ key, version: Math.max(0, expectedVersion(history, key) + lag) }));
  const writes = changes.map(({ key, isRemoval }) => ({ key, value: isRemoval ? undefined : bytes(text) }));
  const { isCommitted, revision, versions } = await history.store.transact(named, writes);
  const present = named.map(({ key }) => expectedVersion(history, key));
  expect(isCommitted).toBe(named.every(({ version }, at) => version === present[at]));
  expect(revision).toBeGreaterThanOrEqual(history.newest);
  if (!isCommitted) {
    expect(versions).toEqual(present);
    return;
  }
  const changed = changes.filter(({ key, isRemoval }) => !isRemoval || history.items.has(key));
  const absent = changes.filter((change) => !changed.includes(change));
  expect(absent.map((change) => versions[changes.indexOf(change)])).toEqual(absent.map(() => 0));
  const own = changed.map((change) => versions[changes.indexOf(change)] ?? 0);
  expect(own).toEqual(own.toSorted((a, b) => a - b));
  if (own.length > 0) expect(own[0]).toBeGreaterThan(history.newest);
  for (const [at, { key, isRemoval }] of changed.entries()) {
    if (isRemoval) history.items.delete(key);
    else history.items.set(key, { text, version: own[at] ?? 0 });
  }
  history.newest = Math.max(history.newest, ...own);
  expect(revision).toBeGreaterThanOrEqual(history.newest);
}

/** Reads the watch up to a change that is made now, and compares the received items with the model. */
async function look(history: StoreHistory, text: string): Promise<void> {
  const { received } = history;
  await transactBoth(history, { conditions: [], changes: [{ key: "p/tick", isRemoval: false }] }, text);
  for (let isCurrent = false; !isCurrent || history.position < history.newest; ) {
    const found = await history.watch.next();
    if (found === undefined) throw new Error("the watch ended");
    ({ isCurrent, revision: history.position } = found);
    if (found.isReset) received.clear();
    for (const { key, item } of found.changes) {
      if (item === undefined) received.delete(key);
      else received.set(key, `${textOf(item.value)}@${item.version}`);
    }
  }
  expect(new Map(received)).toEqual(expectedLines(history, "p/"));
}

async function runStep(history: StoreHistory, step: Step, text: string): Promise<void> {
  const { store } = history;
  switch (step.kind) {
    case "transact":
      return transactBoth(history, step, text);
    case "look":
      return look(history, text);
    case "open":
      history.watch.close();
      history.watch = store.watch("p/");
      return;
    case "compact":
      if (history.newest > 0) await store.compact(history.newest);
  }
}

function model({ open, runs: numRuns }: StoreUnderTest): void {
  const key = fc.constantFrom("a", "b", "p/a", "p/b", "p/c");
  const condition = fc.record({ key, lag: fc.constantFrom(0, 0, 0, 0, 0, 1, -1) });
  const change = fc.record({ key, isRemoval: fc.boolean() });
  const transaction = fc.record({
    kind: fc.constant("transact" as const),
    conditions: fc.array(condition, { maxLength: 3 }),
    changes: fc.uniqueArray(change, { minLength: 1, maxLength: 4, selector: (each) => each.key }),
  });
  const other = fc.record({ kind: fc.constantFrom("look" as const, "open" as const, "compact" as const) });
  const step: fc.Arbitrary<Step> = fc.oneof({ weight: 3, arbitrary: transaction }, { weight: 2, arbitrary: other });

  test("transactions change a store as they change a map, and a reader that folds a watch has the items of the store", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await using store = await open(BOUNDS);
        const history: StoreHistory = {
          store,
          items: new Map(),
          received: new Map(),
          watch: store.watch("p/"),
          position: 0,
          newest: 0,
        };
        for (const [at, each] of steps.entries()) await runStep(history, each, `${at}`);
        await look(history, "last");
        const { items } = await store.list("");
        expect(new Map(items.map(({ key: held, value, version }) => [held, `${textOf(value)}@${version}`]))).toEqual(
          expectedLines(history, ""),
        );
      }),
      { numRuns },
    );
  });
}
