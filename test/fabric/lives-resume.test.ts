import { expect, test } from "vitest";
import { LIVES_DEFAULTS, Lives } from "../../src/fabric/lives.ts";
import { timeOf } from "../fakes/history.ts";
import { KEYS, MeshNode } from "../fakes/mesh.ts";

test("clocks of origins that were away before a restart go on; those of others begin with it", () => {
  const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new MeshNode(id)) as [MeshNode, MeshNode, MeshNode];
  for (const [i, node] of [n2, n3].entries()) {
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  const { replica } = n1;
  const parts = { replica, clusterId: "c1", findMember: () => undefined, readmit: () => undefined };
  const lives = new Lives(LIVES_DEFAULTS, { ...parts, forgetOrigin: (origin, time) => replica.forgetOrigin(origin, time) });
  const start = { monoMs: 1000, wallMs: 1_000_000 };
  lives.resume(new Map([["n2/1", start.monoMs - LIVES_DEFAULTS.orphanGraceMs]]));
  lives.tick(start, []);
  expect([...replica.origins.values()].map(({ id, life }) => [id, life])).toEqual([
    ["n1/1", "live"],
    ["n2/1", "hidden"],
    ["n3/1", "orphaned"],
  ]);
  lives.tick({ monoMs: start.monoMs + LIVES_DEFAULTS.originForgetMs - LIVES_DEFAULTS.orphanGraceMs, wallMs: 0 }, []);
  expect([...replica.forgotten]).toEqual(["n2/1"]);
});

test("what others hide a newcomer does not show for another grace, and forgets no sooner for it", () => {
  const [n1, n2, n3] = ["n1", "n2", "n3"].map((id) => new MeshNode(id)) as [MeshNode, MeshNode, MeshNode];
  for (const [i, node] of [n2, n3].entries()) {
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  const { replica } = n1;
  const parts = { replica, clusterId: "c1", findMember: () => undefined, readmit: () => undefined };
  const lives = new Lives(LIVES_DEFAULTS, {
    ...parts,
    wasHidden: (id) => id === "n2/1",
    forgetOrigin: (origin, time) => replica.forgetOrigin(origin, time),
  });
  lives.tick({ monoMs: 1000, wallMs: 0 }, []);
  expect([...replica.origins.values()].map(({ id, life }) => [id, life])).toEqual([
    ["n1/1", "live"],
    ["n2/1", "hidden"],
    ["n3/1", "orphaned"],
  ]);
  lives.tick({ monoMs: 1000 + LIVES_DEFAULTS.originForgetMs - LIVES_DEFAULTS.orphanGraceMs - 1, wallMs: 0 }, []);
  expect([...replica.forgotten]).toEqual([]);
});
