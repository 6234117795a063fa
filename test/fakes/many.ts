/** Replicas with many records, and a count of what is looked at in them. */
import { type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { timeOf } from "./history.ts";
import type { FabricComponent } from "./mesh.ts";

const T = timeOf(1, 0);

export function keysOf(count: number): readonly KeyText[] {
  return Array.from({ length: count }, (_, i) =>
    keyText({ kind: KIND.SERVICE, namespace: "other", name: "n", instanceId: `i${i}`, clusterId: "c1" }),
  );
}

/** The replica of a node is filled without its model, which would look at everything for each record. */
export function fill(node: FabricComponent, keys: readonly KeyText[]): void {
  for (const key of keys) node.put(key, 0, T);
  node.replica.commit(node.replica.lastSeq, T);
}

interface Visited<T> {
  forEachSince(after: number, visit: (record: T, order: number) => boolean): void;
}

/** Counts what is visited of a log from now on. */
export function counting<T>(log: Visited<T>): { count: number } {
  const visited = { count: 0 };
  const original = log.forEachSince.bind(log);
  log.forEachSince = (after, visit) =>
    original(after, (record, order) => {
      visited.count += 1;
      return visit(record, order);
    });
  return visited;
}
