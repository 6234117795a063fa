/** A journal restored from a backup, and the generation that makes up for it (semantics.md, Durability). */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BODY, deltaId, type KeyText } from "../../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../../src/catalog/replica/new-generation.ts";
import { runs } from "../../fakes/effort.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const GENERATION = 2;

function at(ms: number): { readonly monoMs: number; readonly wallMs: number } {
  return { monoMs: ms, wallMs: 1_760_000_000_000 + ms };
}

interface Act {
  readonly kind: "put" | "expire" | "unregister";
  readonly key: number;
  readonly variant: number;
}

const acts = fc.array(fc.record<Act>({ kind: fc.constantFrom("put", "put", "expire", "unregister"), key: fc.nat(3), variant: fc.nat(6) }), {
  maxLength: 12,
});

/** Returns the acts that changed something. */
function run(node: FabricComponent, all: readonly Act[], startMs: number): readonly Act[] {
  return all.filter(({ kind, key, variant }, i) => {
    const { lastSeq } = node.replica;
    const time = at(startMs + i);
    const keyText = keyOf(key);
    if (kind === "put") node.put(keyText, variant, time);
    else node.end(keyText, kind === "expire" ? BODY.EXPIRED : BODY.UNREGISTERED, time);
    node.commit(time);
    return node.replica.lastSeq > lastSeq;
  });
}

function keyOf(n: number): KeyText {
  const key = KEYS[n];
  if (key === undefined) throw new Error(`no key ${n}`);
  return key;
}

/** Everything each knows goes to the other. */
function exchange(a: FabricComponent, b: FabricComponent, ms: number): void {
  for (const [to, from] of [
    [a, b],
    [b, a],
  ] as const)
    for (const id of from.replica.origins.keys()) to.copy(from, id, at(ms));
}

function seen(node: FabricComponent): readonly string[] {
  return KEYS.flatMap((key) => {
    const record = node.replica.view(key);
    return record === undefined ? [] : [`${key} ${deltaId(record)}`];
  });
}

/** How the new generation comes about: in one go, or with a crash on either side of the one durable step. */
const CRASHES = ["no crash", "crash before it is durable", "crash after it is durable"] as const;

function renew(node: FabricComponent, crash: (typeof CRASHES)[number], ms: number): void {
  if (crash === "crash before it is durable") node.restart(at(ms), "disk kept");
  node.disk.generation = GENERATION;
  if (crash === "crash after it is durable") node.restart(at(ms), "disk kept");
  else {
    startNewGeneration(node.replica, GENERATION);
    while (node.replica.sweep(2, at(ms)));
  }
}

test("after a backup is restored all nodes agree, nothing that was unregistered comes back, and the newest put is there, crash or not", () => {
  fc.assert(
    fc.property(acts, acts, (before, lost) => {
      const ends = CRASHES.map((crash) => {
        const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
        const done = [...run(a, before, 0)];
        const backup = { rows: new Map(a.disk.rows), lastSeq: a.disk.lastSeq, floor: a.disk.floor };
        done.push(...run(a, lost, 100));
        b.copy(a, "a/1", at(200));
        const newest = seen(a);
        a.disk.rows.clear();
        for (const [key, row] of backup.rows) a.disk.rows.set(key, row);
        Object.assign(a.disk, { lastSeq: backup.lastSeq, floor: backup.floor });
        a.restart(at(300), "disk kept");
        renew(a, crash, 300);
        exchange(a, b, 400);
        exchange(a, b, 500);
        expect(seen(a)).toEqual(seen(b));
        expect([...a.replica.origins.keys()].toSorted()).toEqual([...b.replica.origins.keys()].toSorted());
        // The same keys with the same numbers; a key of before that nobody touched since is the new generation's word.
        const numbers = (lines: readonly string[]) => lines.map((line) => line.replace(/a\/\d+\//, ""));
        const kept = numbers(seen(a));
        for (const line of numbers(newest)) expect(kept).toContain(line);
        for (let key = 0; key < 4; key++) {
          const last = done.findLast((act) => act.key === key);
          if (last?.kind === "unregister") expect(a.replica.view(keyOf(key))).toBeUndefined();
        }
        return seen(a);
      });
      expect(ends[1]).toEqual(ends[0]);
      expect(ends[2]).toEqual(ends[0]);
    }),
    { numRuns: runs(60) },
  );
});
