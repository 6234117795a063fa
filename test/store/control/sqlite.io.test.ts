import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { DatabaseSync } from "node:sqlite";
import { afterAll, expect, test } from "vitest";
import { openSqliteStore } from "../../../src/store/control/sqlite.io.ts";
import { type ControlStore, MAX_VALUE_BYTES } from "../../../src/store/control/store.ts";
import { storeContract } from "../../contract/store.ts";
import { directoryBytes, temporaryDirectory } from "../journal-fixture.ts";

// An open store keeps the thread of all stores alive, so that the tests do not start it again.
const others = temporaryDirectory();
const other = await openSqliteStore(others.path);
afterAll(async () => {
  await other.close();
  others[Symbol.dispose]();
});

storeContract("sqlite", {
  runs: 10,
  maxValueBytes: MAX_VALUE_BYTES,
  hasBounds: true,
  open: async (bounds) => {
    const directory = temporaryDirectory();
    const store = await openSqliteStore(directory.path, { bounds });
    const close = store.close.bind(store);
    const closeAll = async (): Promise<void> => {
      await close();
      directory[Symbol.dispose]();
    };
    return Object.assign(store, { close: closeAll, [Symbol.asyncDispose]: closeAll });
  },
});

const bytes = (text: string) => new TextEncoder().encode(text);

const open = (directory: string): Promise<ControlStore> => openSqliteStore(directory);

/** A directory with a store in it that was closed: `a` at 1, `b` removed at 3. */
async function filled(directory: string): Promise<void> {
  await using store = await open(directory);
  await store.compareAndSwap("a", 0, bytes("one"));
  await store.compareAndSwap("b", 0, bytes("two"));
  await store.compareAndSwap("b", 2, undefined);
}

test("everything is there after a restart: items and versions", async () => {
  using directory = temporaryDirectory();
  await filled(directory.path);
  await using store = await open(directory.path);
  expect(await store.list("")).toEqual({ items: [{ key: "a", value: bytes("one"), version: 1 }], revision: 3, nextAfter: undefined });
  expect(await store.compareAndSwap("c", 0, bytes("three"))).toEqual({ isSwapped: true, version: 4 });
});

test("a transaction is complete after a restart, and later revisions follow its last one", async () => {
  using directory = temporaryDirectory();
  await filled(directory.path);
  const changes = [
    { key: "a", value: undefined },
    { key: "b", value: bytes("three") },
    { key: "c", value: bytes("four") },
  ];
  {
    await using store = await open(directory.path);
    expect(await store.transact([{ key: "a", version: 1 }], changes)).toEqual({ isCommitted: true, revision: 6, versions: [4, 5, 6] });
  }
  await using store = await open(directory.path);
  expect((await store.list("")).items.map(({ key, version }) => `${key}@${version}`)).toEqual(["b@5", "c@6"]);
  expect(await store.compareAndSwap("d", 0, bytes("five"))).toEqual({ isSwapped: true, version: 7 });
});

test("a second opener is told who holds the store, and gets it once that one has closed", async () => {
  using directory = temporaryDirectory();
  const first = await open(directory.path);
  await expect(open(directory.path)).rejects.toThrow(`in use by process ${process.pid}`);
  await expect(open(directory.path)).rejects.toMatchObject({ details: { metadata: { problem: "in_use" } } });
  await first.compareAndSwap("a", 0, bytes("one"));
  await first.close();
  await (await open(directory.path)).close();
});

/** What makes a closed store's file one that must not be used; `problem` is what the refusal says. */
const DAMAGES: readonly { readonly what: string; readonly problem: string; readonly harm: (path: string) => void }[] = [
  {
    what: "of a newer program",
    problem: "other_format",
    harm: (path) => {
      const file = readFileSync(path);
      file.writeUInt32BE(3, 60);
      writeFileSync(path, file);
    },
  },
  {
    what: "of another program",
    problem: "corrupt",
    harm: (path) => {
      const file = readFileSync(path);
      file.writeUInt32BE(0x1234, 68);
      writeFileSync(path, file);
    },
  },
  { what: "cut off", problem: "corrupt", harm: (path) => writeFileSync(path, readFileSync(path).subarray(0, 5000)) },
  { what: "no database", problem: "corrupt", harm: (path) => writeFileSync(path, "x".repeat(9000)) },
  { what: "longer than it was left", problem: "corrupt", harm: (path) => appendFileSync(path, "x") },
  {
    what: "changed in one byte of a value after a crash",
    problem: "corrupt",
    harm: (path) => {
      const file = readFileSync(path);
      const at = file.indexOf("one");
      file[at] = (file[at] ?? 0) ^ 1;
      writeFileSync(path, file);
      writeFileSync(path.replace(".db", ".sum"), "");
    },
  },
  {
    what: "changed by another program, whole as a database",
    problem: "corrupt",
    harm: (path) => {
      writeFileSync(path.replace(".db", ".sum"), "");
      const db = new DatabaseSync(path);
      db.exec("UPDATE items SET value = CAST('two' AS BLOB) WHERE key = 'a'; PRAGMA wal_checkpoint(TRUNCATE)");
      db.close();
    },
  },
];

test.each(DAMAGES)("a file that is $what is refused as $problem and left as it is", async ({ problem, harm }) => {
  using directory = temporaryDirectory();
  await filled(directory.path);
  harm(join(directory.path, "control.db"));
  const files = (): unknown => ({ ...directoryBytes(directory.path), "control.lock": "", "control.pid": "" });
  const before = files();
  await expect(open(directory.path)).rejects.toMatchObject({ reason: "store_unavailable", details: { metadata: { problem } } });
  expect(files()).toEqual(before);
  expect(existsSync(join(directory.path, "control.pid"))).toBe(false);
});

test("a log without its file is refused: starting empty would lose what was answered", async () => {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, "control.db-wal"), "");
  await expect(open(directory.path)).rejects.toMatchObject({ details: { metadata: { problem: "corrupt" } } });
});

test("a directory that cannot be made is said", async () => {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, "file"), "");
  await expect(open(join(directory.path, "file", "below"))).rejects.toMatchObject({ reason: "store_unavailable" });
});

test("a disk that refuses is said, changes nothing, and does not stop what comes after", async () => {
  using directory = temporaryDirectory();
  await filled(directory.path);
  const path = join(directory.path, "control.db");
  rmSync(path.replace(".db", ".sum"));
  const db = new DatabaseSync(path);
  db.exec("PRAGMA journal_mode = WAL");
  db.exec("CREATE TRIGGER refuse BEFORE INSERT ON items WHEN new.key = 'b' BEGIN SELECT RAISE(ABORT, 'disk full'); END");
  db.close();
  writeFileSync(`${path}-wal`, "");
  await using store = await open(directory.path);
  using watch = store.watch("");
  await watch.next();
  await expect(store.compareAndSwap("b", 0, bytes("x"))).rejects.toThrow("store_unavailable: disk full");
  const changes = ["a", "b"].map((key) => ({ key, value: bytes("x") }));
  await expect(store.transact([], changes)).rejects.toThrow("store_unavailable: disk full");
  expect(await store.get("b")).toBeUndefined();
  expect((await store.get("a"))?.version).toBe(1);
  expect(await store.compareAndSwap("c", 0, bytes("y"))).toEqual({ isSwapped: true, version: 4 });
  expect((await watch.next())?.changes.map(({ key }) => key)).toEqual(["c"]);
});

test.each([
  { what: "is gone", lose: (path: string) => rmSync(path) },
  { what: "was emptied", lose: (path: string) => truncateSync(path) },
  { what: "was cut in half", lose: (path: string) => truncateSync(path, statSync(path).size / 2) },
])("after a crash, a store whose log $what is refused, and accepted on request", async ({ lose }) => {
  using directory = temporaryDirectory();
  await filled(directory.path);
  const crashed = spawn(process.execPath, [join(import.meta.dirname, "..", "store-child.ts"), directory.path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  createInterface(crashed.stdout).on("line", (line) => void (line === "9" && crashed.kill("SIGKILL")));
  await once(crashed, "close");
  // The killed process's lock goes with the next that takes it.
  lose(join(directory.path, "control.db-wal"));
  for (const name of ["lock-journal", "pid"]) rmSync(join(directory.path, `control.${name}`), { force: true });
  const before = directoryBytes(directory.path);
  await expect(open(directory.path)).rejects.toThrow(/control\.db has lost its log: .*--new-generation/);
  expect(directoryBytes(directory.path)).toEqual(before);
  const lost = Number.parseInt(readFileSync(join(directory.path, "control.mark"), "latin1"), 10);
  await using store = await openSqliteStore(directory.path, { takesAsItIs: true });
  expect((await store.get("a"))?.version).toBe(1);
  expect(await store.compareAndSwap("later", 0, bytes("x"))).toEqual({ isSwapped: true, version: lost + 1 });
});

test("killed at any moment, the store has every swap it answered", async () => {
  using directory = temporaryDirectory();
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "store-child.ts"), directory.path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let answered = 0;
  createInterface(child.stdout).on("line", (line) => {
    answered = Number(line);
    if (answered > 30) child.kill("SIGKILL");
  });
  await once(child, "close");
  expect(answered).toBeGreaterThan(30);
  await using store = await open(directory.path);
  const item = await store.get("counter");
  expect(item?.version).toBeGreaterThanOrEqual(answered);
  expect(new TextDecoder().decode(item?.value)).toBe(`${item?.version}`);
});
