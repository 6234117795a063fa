/** What tombstones leave behind (semantics.md, Tombstones). */
import { expect, test } from "vitest";
import { carriedHlc } from "../../src/catalog/graveyard.ts";
import { BODY } from "../../src/catalog/record.ts";
import { KEYS, MeshNode } from "../fakes/mesh.ts";

const WALL = 1_760_000_000_000;
const DAY_MS = 86_400_000;
const time = (monoMs: number) => ({ monoMs, wallMs: WALL + monoMs });

test.each([
  ["in step", "age"],
  ["while somebody is away", "count"],
] as const)(
  "an end stamped by a clock a day ahead, %s, keeps what its origin unregistered: an older record that comes late stays hidden",
  (_, by) => {
    const [a, b, c] = [new MeshNode("a"), new MeshNode("b"), new MeshNode("c")];
    const [key] = KEYS;
    if (key === undefined) throw new Error("there are keys");
    b.put(key, 0, time(1));
    b.commit(time(1));
    a.put(key, 0, time(2));
    a.commit(time(2));
    a.end(key, BODY.UNREGISTERED, time(3));
    a.commit(time(3));
    a.replica.collect(time(4), 10, by);
    a.put(key, 1, time(5), (WALL + DAY_MS) * 2048);
    a.commit(time(5));
    a.end(key, BODY.EXPIRED, { monoMs: 6, wallMs: WALL + DAY_MS + 6 });
    a.commit(time(6));
    // Only the newest record of a key is told.
    c.copy(a, "a/1", time(7));
    c.copy(b, "b/1", time(8));
    expect(c.replica.view(key)).toBeUndefined();
  },
);

test("a key without a record carries nothing", () => {
  expect(carriedHlc(undefined)).toBeUndefined();
});
