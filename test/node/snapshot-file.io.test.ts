import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { snapshotBlocks } from "../../src/fabric/snapshot/snapshot.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import { openLog } from "../../src/lib/log.io.ts";
import type { WarmStart } from "../../src/node/core/warm-start.ts";
import { SnapshotFile } from "../../src/node/snapshot-file.io.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { BOUNDS } from "../fakes/options.ts";

let home = "";
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "waymark-warm-"));
});
afterEach(() => rmSync(home, { recursive: true }));

const log = openLog({ level: "silent", scopes: new Map(), format: "json" }).child("node");
const time = { monoMs: 0, wallMs: Date.now() };
const live = () => ({ life: "live", absentWallMs: undefined }) as const;

/** The file of a node, and what a machine would order of it. */
function warmOf(node: FabricComponent, more: { clusterId?: string; directory?: string | undefined; hlc?: Hlc } = {}) {
  const { clusterId = "c1", hlc = new Hlc(), directory = home } = "directory" in more ? { ...more, directory: more.directory ?? "" } : more;
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool() });
  const file = new SnapshotFile(directory === "" ? undefined : directory, log);
  const header = { nodeId: node.replica.self.nodeId, clusterId, starts: [], sourceAges: [] };
  return {
    file,
    restore: () => file.restore({ replica: node.replica, stamper, bounds: BOUNDS, hlc, maxClockSkewMs: 60_000, clusterId }),
    save: (rightWallMs = Date.now(), setsAside = false) =>
      file.keep({ rightWallMs, blocks: snapshotBlocks(node.replica, { ...header, savedWallMs: rightWallMs }, live), setsAside }),
  };
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
  await warmOf(n1).save();
  n1.restart(time, "disk kept");
  const hlc = new Hlc();
  const warm = await warmOf(n1, { hlc }).restore();
  expect(n1.replica.lookup.size).toBe(KEYS.length);
  expect(n1.replica.origins.get("n2/1")?.through).toBe(KEYS.length);
  expect(Date.now() - (warm as WarmStart).savedWallMs).toBeLessThan(60_000);
  expect(hlc.last()).toBeGreaterThanOrEqual(time.wallMs * 2048);
});

test("a file that is right already is only said to be right", async () => {
  const [n1] = pair();
  const { file, save } = warmOf(n1);
  const path = join(home, "replica.snapshot");
  await save(1000);
  const first = statSync(path);
  expect(await file.keep({ rightWallMs: 5000, blocks: undefined, setsAside: false })).toBe(true);
  expect([statSync(path).ino, statSync(path).mtimeMs]).toEqual([first.ino, 5000]);
});

test.each([
  { what: "changed", spoil: (bytes: Buffer) => bytes.fill(3, 200, 210) },
  { what: "cut off", spoil: (bytes: Buffer) => bytes.subarray(0, -30) },
  { what: "empty", spoil: () => Buffer.alloc(0) },
  { what: "of a later format", spoil: () => Buffer.from("something new") },
])("a snapshot that is $what is ignored, left untouched, and set aside when the next one is written", async ({ spoil }) => {
  const [n1] = pair();
  await warmOf(n1).save();
  const path = join(home, "replica.snapshot");
  const spoilt = Buffer.from(spoil(readFileSync(path)));
  writeFileSync(path, spoilt);
  n1.restart(time, "disk kept");
  const warm = warmOf(n1);
  expect(await warm.restore()).toBe("ignored");
  expect([n1.replica.lookup.size, readFileSync(path)]).toEqual([0, spoilt]);
  await warm.save(Date.now(), true);
  expect(readFileSync(`${path}.ignored`)).toEqual(spoilt);
  expect(readFileSync(path)).not.toEqual(spoilt);
});

test("of another cluster it is ignored, and without a data directory there is none", async () => {
  const [n1] = pair();
  await warmOf(n1).save();
  n1.restart(time, "disk kept");
  expect(await warmOf(n1, { clusterId: "c2" }).restore()).toBe("ignored");
  const none = warmOf(n1, { directory: undefined });
  expect([await none.save(), await none.restore()]).toEqual([false, undefined]);
  await none.file.close();
});

test("it says when it was right, and what is not written when the file is closed leaves the one before", async () => {
  const [n1] = pair();
  const { file, save } = warmOf(n1);
  await save(Date.now() - 5000);
  const before = readFileSync(join(home, "replica.snapshot"));
  const late = save();
  await file.close();
  expect([await late, readFileSync(join(home, "replica.snapshot"))]).toEqual([false, before]);
});

test("what is thrown while it is written leaves the one before", async () => {
  const [n1] = pair();
  const { file, save } = warmOf(n1);
  await save();
  const before = readFileSync(join(home, "replica.snapshot"));
  const blocks = (function* () {
    yield Uint8Array.of(1);
    throw new Error("an origin was forgotten meanwhile");
  })();
  expect(await file.keep({ rightWallMs: 5000, blocks, setsAside: false })).toBe(false);
  expect(readFileSync(join(home, "replica.snapshot"))).toEqual(before);
});
