import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { StopDeadline } from "../../../src/node/components.io.ts";
import { CacheFile, openCacheFile } from "../../../src/node/resolver/cache-file.io.ts";
import { epochOf } from "../../../src/policy/set/verdict.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { version } from "../../fakes/policy-versions.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";
import { until } from "../../fakes/until.ts";

let home = "";
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "waymark-copy-"));
});
afterEach(() => rmSync(home, { recursive: true }));

const DB = { kind: KIND.SERVICE, namespace: "svc", name: "db" } as const;
const LONG = new AbortController().signal;
const MINUTE = 60_000;

/** A resolver that follows two entries, the file of its copy, and what its log says. */
function resolver(world = started(), more: { directory?: string | undefined; maxBytes?: number } = {}) {
  const said: string[] = [];
  const replayed: number[] = [];
  const say = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) =>
    void said.push(`${level}: ${message}${"fault" in fields ? ` (${String(fields["fault"])})` : ""}`);
  const parts = {
    directory: home,
    machine: world.machine,
    maxBytes: 10_000_000,
    log: { debug: () => {}, info: say("info"), warn: say("warn") },
    now: () => world.now,
    onReplayed: ({ entryCount }: { readonly entryCount: number }) => void replayed.push(entryCount),
    ...more,
  };
  return { world, said, replayed, parts, file: new CacheFile(home, parts), path: join(home, "followed.copy") };
}

function started(): ResolverWorld {
  const world = new ResolverWorld(["a"]);
  for (const key of KEYS.slice(0, 2)) world.put("a", key);
  world.run(2000);
  return world;
}

/** The same resolver, after it has stopped. No server answers. */
function again(): ReturnType<typeof resolver> {
  return resolver(new ResolverWorld(["gone"]));
}

test("what was written is served after a restart, which is told to whoever keeps the audit log; only this user may read it", async () => {
  const { file, path, said, replayed } = resolver();
  await file.restore();
  await file.keep();
  expect([statSync(path).mode & 0o777, readdirSync(home), said, replayed]).toEqual([0o600, ["followed.copy"], [], []]);
  const next = again();
  await next.file.restore();
  expect([next.world.ask(DB), next.replayed]).toEqual(["disk stale 2", [2]]);
  expect(next.said).toEqual(["info: restored the cache from the copy on disk"]);
});

test("it is written when something changed, and now and then when nothing did", async () => {
  const { file, path, world } = resolver();
  await file.keep();
  rmSync(path);
  for (let n = 1; n < 10; n++) await file.keep();
  expect(existsSync(path)).toBe(false);
  await file.keep();
  expect(existsSync(path)).toBe(true);
  rmSync(path);
  world.put("a", KEYS[2]!);
  world.run(1000);
  await file.keep();
  expect(existsSync(path)).toBe(true);
});

test("a resolver that holds nothing whole leaves the copy that is there", async () => {
  await resolver().file.keep();
  const before = readFileSync(join(home, "followed.copy"));
  const empty = again();
  await empty.file.keep();
  await empty.file.close(LONG);
  expect(readFileSync(empty.path)).toEqual(before);
});

test.each([
  { what: "cut", make: (bytes: Buffer) => bytes.subarray(0, -1), fault: "the copy is truncated or corrupt" },
  { what: "empty", make: () => Buffer.alloc(0), fault: "the copy is truncated: its last block is missing" },
  { what: "too large", make: () => Buffer.alloc(10_000_001), fault: "it has 10000001 bytes, more than the maximum of 10000000" },
])("a file that is $what is ignored with a warning, and set aside when there is another one", async ({ make, fault }) => {
  const { file, path } = resolver();
  await file.keep();
  writeFileSync(path, make(readFileSync(path)));
  const next = resolver();
  await next.file.restore();
  expect(next.said).toEqual([
    expect.stringContaining(`warn: copy of the cache on disk ignored; entries are fetched from upstream servers (${fault}`),
  ]);
  expect([existsSync(`${path}.ignored`), next.replayed]).toEqual([false, []]);
  await next.file.keep();
  expect(readdirSync(home)).toEqual(["followed.copy", "followed.copy.ignored"]);
});

test("a disk that fails is named once in ten minutes, and stops nothing", async () => {
  const { file, path, world, said } = resolver();
  mkdirSync(`${path}.new`);
  for (let n = 0; n < 3; n++) await file.keep();
  expect(said).toEqual(["warn: copy of the cache not written to disk"]);
  world.run(11 * MINUTE, 1000);
  await file.keep();
  expect([said.length, world.ask(DB)]).toEqual([2, "followed 2"]);
  rmSync(`${path}.new`, { recursive: true });
  await file.keep();
  expect(said.at(-1)).toBe("info: copy of the cache written to disk after earlier failures");
});

test("what stood there stands when the new copy is too large, or is not whole in time", async () => {
  const { file, path, world } = resolver();
  await file.keep();
  const before = readFileSync(path);
  const small = resolver(world, { maxBytes: 100 });
  await small.file.keep();
  await small.file.close(AbortSignal.abort());
  expect([readFileSync(path), readdirSync(home)]).toEqual([before, ["followed.copy"]]);
  expect(small.said).toEqual(["warn: copy of the cache not written to disk: it is too large"]);
});

test("as a part of a node it writes when it stops; without a directory it does nothing", async () => {
  const { parts, path } = resolver();
  const component = await openCacheFile(parts);
  await component.start?.();
  await component.stop?.(new StopDeadline(10_000));
  expect(existsSync(path)).toBe(true);
  const none = await openCacheFile({ ...parts, directory: undefined });
  none.writeSoon();
  expect(Object.keys(none)).toEqual(["writeSoon"]);
});

test("while there is no copy, one is written soon after data arrives, even without a change of policy", async () => {
  const empty = new ResolverWorld(["a"]);
  const { parts, path } = resolver(empty);
  const component = await openCacheFile(parts);
  await component.start?.();
  expect(existsSync(path)).toBe(false);
  empty.put("a", KEYS[0]!);
  empty.run(2000);
  // Shorter than the time between two copies.
  await until("there is a copy", () => existsSync(path), 20_000);
  await component.stop?.(new StopDeadline(10_000));
});

test("a change of policy is written at once, also one that comes while a copy is being written, and nothing after the stop", async () => {
  const { parts, path, world } = resolver();
  const component = await openCacheFile(parts);
  component.writeSoon();
  expect(existsSync(path)).toBe(false);
  await component.start?.();
  const isRestored = async (number: number) => {
    const next = again();
    await next.file.restore();
    return next.world.rooms.policies.newestNumber === number;
  };
  for (const number of [3, 4]) {
    world.server("a").versions = [version(number)];
    world.server("a").policyEpoch = epochOf(version(number).head);
    world.changeCredentials();
    world.run(6000);
    component.writeSoon();
  }
  await expect.poll(() => isRestored(4)).toBe(true);
  await component.stop?.(new StopDeadline(10_000));
  rmSync(path);
  component.writeSoon();
  expect(existsSync(path)).toBe(false);
});
