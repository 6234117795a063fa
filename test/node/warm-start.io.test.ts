import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import { openLog } from "../../src/lib/log.io.ts";
import { WarmStart } from "../../src/node/warm-start.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { BOUNDS } from "../fakes/options.ts";
import { until } from "../fakes/until.ts";

let home = "";
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "waymark-warm-"));
});
afterEach(() => rmSync(home, { recursive: true }));

const log = openLog({ level: "silent", scopes: new Map(), format: "json" }).child("node");
const time = { monoMs: 0, wallMs: Date.now() };
const live = () => ({ life: "live", absentWallMs: undefined }) as const;

function warmOf(node: FabricComponent, more: { clusterId?: string; directory?: string | undefined; hlc?: Hlc } = {}): WarmStart {
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool() });
  const parts = {
    directory: home,
    replica: node.replica,
    stamper,
    bounds: BOUNDS,
    hlc: new Hlc(),
    maxClockSkewMs: 60_000,
    starts: () => [],
  };
  return new WarmStart({ ...parts, clusterId: "c1", log, ...more });
}

function pair(): readonly [FabricComponent, FabricComponent] {
  const [n1, n2] = [new FabricComponent("n1"), new FabricComponent("n2")];
  for (const key of KEYS) n2.put(key, 0, time);
  n2.commit(time);
  n1.copy(n2, "n2/1", time);
  return [n1, n2];
}

test("a restarted node has back what others told, says how old it is, and its clock is not behind", async () => {
  const [n1] = pair();
  await warmOf(n1).save(live);
  n1.restart(time, "disk kept");
  const hlc = new Hlc();
  const warm = await warmOf(n1, { hlc }).restore();
  expect(n1.replica.lookup.size).toBe(KEYS.length);
  expect(n1.replica.origins.get("n2/1")?.through).toBe(KEYS.length);
  expect(Date.now() - (warm?.savedWallMs ?? 0)).toBeLessThan(60_000);
  expect(hlc.last()).toBeGreaterThanOrEqual(time.wallMs * 2048);
});

test("with nothing new the snapshot is not written again, but said to be right", async () => {
  const [n1, n2] = pair();
  const warm = warmOf(n1);
  const path = join(home, "replica.snapshot");
  await warm.save(live);
  const first = statSync(path);
  await warm.save(live);
  expect(statSync(path).ino).toBe(first.ino);
  expect(statSync(path).mtimeMs).toBeGreaterThanOrEqual(first.mtimeMs);
  n2.put(KEYS[0]!, 1, time);
  n2.commit(time);
  n1.copy(n2, "n2/1", time);
  await warm.save(live);
  expect(statSync(path).ino).not.toBe(first.ino);
});

test.each([
  { what: "changed", spoil: (bytes: Buffer) => bytes.fill(3, 200, 210) },
  { what: "cut off", spoil: (bytes: Buffer) => bytes.subarray(0, -30) },
  { what: "empty", spoil: () => Buffer.alloc(0) },
  { what: "of a later format", spoil: () => Buffer.from("something new") },
])("a snapshot that is $what is ignored, left untouched, and set aside when the next one is written", async ({ spoil }) => {
  const [n1] = pair();
  await warmOf(n1).save(live);
  const path = join(home, "replica.snapshot");
  const spoilt = Buffer.from(spoil(readFileSync(path)));
  writeFileSync(path, spoilt);
  n1.restart(time, "disk kept");
  const warm = warmOf(n1);
  expect(await warm.restore()).toBeUndefined();
  expect([n1.replica.lookup.size, readFileSync(path)]).toEqual([0, spoilt]);
  await warm.save(live);
  expect(readFileSync(`${path}.ignored`)).toEqual(spoilt);
  expect(readFileSync(path)).not.toEqual(spoilt);
});

test("of another cluster it is ignored, and without a data directory there is none", async () => {
  const [n1] = pair();
  await warmOf(n1).save(live);
  n1.restart(time, "disk kept");
  expect(await warmOf(n1, { clusterId: "c2" }).restore()).toBeUndefined();
  const none = warmOf(n1, { directory: undefined });
  await none.save(live);
  none.start(1, live, Date.now);
  expect(await none.restore()).toBeUndefined();
  await none.close();
});

test("it is written now and then, but not before what was restored is right again", async () => {
  const [n1] = pair();
  const warm = warmOf(n1);
  let isAsked = false;
  let isTrue = false;
  warm.start(5, live, () => {
    isAsked = true;
    return isTrue ? Date.now() : undefined;
  });
  await until("the first turn", () => isAsked);
  expect(existsSync(join(home, "replica.snapshot"))).toBe(false);
  isTrue = true;
  await until("a snapshot", () => existsSync(join(home, "replica.snapshot")));
  await warm.close();
});

test("when the node stops it is written once more, with when that was right; out of time, what stands stands", async () => {
  const [n1] = pair();
  const warm = warmOf(n1);
  warm.start(3_600_000, live, Date.now);
  const rightWallMs = Date.now() - 5000;
  await warm.finish(live, rightWallMs, 5000);
  await warm.close();
  n1.restart(time, "disk kept");
  const again = warmOf(n1);
  expect((await again.restore())?.savedWallMs).toBe(rightWallMs);
  await again.close();
  const before = readFileSync(join(home, "replica.snapshot"));
  await again.finish(live, Date.now(), 5000);
  expect(readFileSync(join(home, "replica.snapshot"))).toEqual(before);
});
