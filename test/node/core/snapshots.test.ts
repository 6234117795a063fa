/** When what others told is written down, how old that is, and what a file says that is there already. */
import { expect, test } from "vitest";
import type { Origin } from "../../../src/catalog/record/stored-record.ts";
import { SnapshotScheduler } from "../../../src/node/core/snapshots.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { at } from "../../fakes/registry.ts";

function writing({ intervalMs = 1000, isOtherThere = false } = {}) {
  const [node, other] = [new FabricComponent("n1"), new FabricComponent("n2")];
  for (const key of KEYS) other.put(key, 0, at(0));
  other.commit(at(0));
  node.copy(other, "n2/1", at(0));
  const fabric = {
    readiness: { isReady: true, read: () => ({ ageMs: age.ms }) },
    membership: { acceptedStarts: () => [] },
    lifecycle: LIVES,
  };
  const age = { ms: 0 };
  const snapshots = new SnapshotScheduler(
    { replica: node.replica, fabric: fabric as never, clusterId: "c1" },
    { intervalMs, isOtherThere },
  );
  snapshots.begin(at(0));
  const change = () => {
    other.put(KEYS[0]!, 1, at(1));
    other.commit(at(1));
    node.copy(other, "n2/1", at(1));
  };
  return { node, fabric, age, snapshots, change };
}

const LIVES = { standingOf: ({ life }: Origin) => ({ life, absentWallMs: undefined, isOver: false }) };

test("it is written each interval, one at a time, whole only where something changed or the last one failed", () => {
  const { snapshots, change } = writing();
  expect([snapshots.due(at(999)), snapshots.nextDeadlineMs()]).toEqual([undefined, at(1000).monoMs]);
  expect(snapshots.due(at(1000))?.blocks).toBeDefined();
  expect([snapshots.due(at(5000)), snapshots.nextDeadlineMs()]).toEqual([undefined, Number.POSITIVE_INFINITY]);
  snapshots.kept(true);
  expect(snapshots.due(at(5000))).toMatchObject({ blocks: undefined, rightWallMs: at(5000).wallMs });
  snapshots.kept(true);
  change();
  expect(snapshots.due(at(6000))?.blocks).toBeDefined();
  snapshots.kept(false);
  expect(snapshots.due(at(7000))?.blocks).toBeDefined();
});

test("it is as old as what is held may be, and none is written before anybody knows that, or while records are dropped", () => {
  const { snapshots, fabric, age, node } = writing();
  fabric.readiness.isReady = false;
  expect(snapshots.due(at(1000))).toBeUndefined();
  fabric.readiness.isReady = true;
  age.ms = 300.4;
  expect(snapshots.due(at(2000))?.rightWallMs).toBe(at(2000).wallMs - 300);
  snapshots.kept(true);
  Object.defineProperty(node.replica, "isForgetting", { value: true });
  expect(snapshots.due(at(3000))).toBeUndefined();
});

test("as a node stops it is written once more, with the age of the goodbye; then never again", () => {
  const { snapshots, age } = writing();
  age.ms = 50;
  snapshots.last(at(100));
  expect(snapshots.isOver).toBe(false);
  age.ms = 5000;
  expect(snapshots.due(at(500))?.rightWallMs).toBe(at(50).wallMs);
  expect([snapshots.isOver, snapshots.nextDeadlineMs()]).toEqual([false, Number.POSITIVE_INFINITY]);
  snapshots.kept(true);
  expect([snapshots.isOver, snapshots.due(at(90_000))]).toEqual([true, undefined]);
});

test("the last one waits for the one that is being written", () => {
  const { snapshots, change } = writing();
  snapshots.due(at(1000));
  snapshots.last(at(1001));
  expect([snapshots.due(at(1001)), snapshots.isOver]).toEqual([undefined, false]);
  snapshots.kept(true);
  change();
  expect([snapshots.nextDeadlineMs(), snapshots.due(at(1010))?.blocks !== undefined]).toEqual([at(1001).monoMs, true]);
});

test("a file that is of no use is set aside by the first own one alone; without an interval there is none at all", () => {
  const { snapshots } = writing({ isOtherThere: true });
  expect(snapshots.due(at(1000))?.setsAside).toBe(true);
  snapshots.kept(true);
  expect(snapshots.due(at(2000))?.setsAside).toBe(false);
  const none = writing({ intervalMs: 0 }).snapshots;
  none.last(at(1));
  expect([none.due(at(90_000)), none.isOver, none.nextDeadlineMs()]).toEqual([undefined, true, Number.POSITIVE_INFINITY]);
});
