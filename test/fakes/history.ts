/** Random histories of a mesh: what happens to whom, as plain tuples that shrink well. */
import fc from "fast-check";
import { BODY, type OriginStatus } from "../../src/catalog/record/record.ts";
import type { Time } from "../../src/lib/machine.ts";
import { type FabricComponent, KEYS } from "./mesh.ts";

const KINDS = ["put", "put", "put", "end", "abort", "copy", "copy", "copy", "life", "collect", "forget", "restart"] as const;
export type StepKind = (typeof KINDS)[number];

export interface Step {
  readonly kind: StepKind;
  readonly node: number;
  readonly other: number;
  readonly key: number;
  readonly detail: number;
}

const LIVES: readonly OriginStatus[] = ["live", "orphaned", "hidden"];

export function steps(bounds: { readonly max: number; readonly without?: readonly StepKind[] }): fc.Arbitrary<readonly Step[]> {
  const kinds = KINDS.filter((kind) => bounds.without?.includes(kind) !== true);
  const step = fc.record({
    kind: fc.constantFrom(...kinds),
    node: fc.nat(2),
    other: fc.nat(2),
    key: fc.nat(KEYS.length - 1),
    detail: fc.nat(199),
  });
  return fc.array(step, { minLength: 1, maxLength: bounds.max, size: "max" });
}

/** What a history leaves out. */
export interface Limits {
  readonly mayForget?: (originId: string) => boolean;
  /** Copies go on until the other has everything. */
  readonly isCopyWhole?: boolean;
}

/** Does one step; time moves by a step's worth, and clocks of the nodes differ. */
export function take(mesh: readonly FabricComponent[], step: Step, n: number, limits: Limits = {}): void {
  const node = mesh[step.node % mesh.length];
  const other = mesh[step.other % mesh.length];
  const key = KEYS[step.key];
  if (node === undefined || other === undefined || key === undefined) return;
  const time = timeOf(n, step.node);
  const origins = [...node.replica.origins.keys()];
  const originId = origins[step.detail % origins.length] ?? "";
  switch (step.kind) {
    case "put":
      node.put(key, step.detail, time);
      if (step.detail % 5 !== 0) node.commit(time);
      return;
    case "end":
      node.end(key, step.detail % 2 === 0 ? BODY.EXPIRED : BODY.UNREGISTERED, time);
      if (step.detail % 5 !== 0) node.commit(time);
      return;
    case "abort":
      node.replica.abort();
      return;
    case "copy":
      // From `node` to `other`, sometimes in a single small frame, so that the other knows a part only.
      other.copy(node, originId, time, 150 + step.detail * 5, limits.isCopyWhole === true ? undefined : 1 + (step.detail % 4));
      return;
    case "life":
      node.setLife(originId, LIVES[step.key % 3] ?? "live");
      return;
    case "collect":
      node.collect(timeOf(n + step.detail * 4, step.node), 1 + (step.detail % 8));
      return;
    case "forget":
      if (limits.mayForget?.(originId) !== false) node.forget(originId, time);
      return;
    case "restart":
      node.replica.abort();
      node.restart(time, step.detail % 3 === 0 ? "disk lost" : "disk kept");
      return;
  }
}

/** Node 1's wall clock is behind and node 2's ahead. */
export function timeOf(n: number, node: number): Time {
  return { monoMs: n * 10, wallMs: 1_000_000 + n * 10 + [0, -35, 35][node % 3]! };
}
