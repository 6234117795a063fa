import { expect, test } from "vitest";
import { type FoundServer, MAX_FOUND, ServerList } from "../../../src/client/servers/server-list.ts";
import { Rng } from "../../../src/lib/rng.ts";

const HERE = { region: "r1", zone: "z1" };

function found(server: string, more: Partial<FoundServer> = {}): FoundServer {
  return { server, ...HERE, load: 0.5, kind: "node", ...more };
}

/** Servers that know these, all of them proven. */
function knowing(servers: readonly FoundServer[], seeds: readonly string[] = ["seed:1"], seed = "servers"): ServerList {
  const rng = new Rng(seed);
  const book = new ServerList({ seeds, place: HERE, random: () => rng.next() });
  book.learn(servers, HERE, 0);
  book.proven(
    servers.map(({ server }) => server),
    0,
  );
  return book;
}

test("seeds are used in the order given until others are found", () => {
  const book = new ServerList({ seeds: ["a:1", "b:1"], place: undefined, random: () => 0.5 });
  expect([book.current("read"), book.current("write")]).toEqual(["a:1", "a:1"]);
  book.failed("a:1", 0);
  expect([book.current("read"), book.current("write")]).toEqual(["b:1", "b:1"]);
});

test("own zone first, then own region, then elsewhere", () => {
  const all = [found("far:1", { region: "r2" }), found("region:1", { zone: "z2" }), found("zone:1")];
  const book = knowing(all);
  expect(book.current("write")).toBe("zone:1");
  book.failed("zone:1", 0);
  expect(book.current("write")).toBe("region:1");
  book.failed("region:1", 0);
  expect(book.current("write")).toBe("far:1");
});

test("of equally near servers the less loaded one is chosen more often", () => {
  const all = [found("busy:1", { load: 0.9 }), found("idle:1", { load: 0.1 })];
  const chosen = Array.from({ length: 200 }, (_, i) => knowing(all, ["seed:1"], `seed ${i}`).current("write"));
  const idle = chosen.filter((server) => server === "idle:1").length;
  expect(idle).toBeGreaterThan(120);
  expect(idle).toBeLessThan(200);
});

test("a resolver takes reads and never a write, unless a node is nearer", () => {
  const near = knowing([found("node:1"), found("resolver:1", { kind: "resolver" })]);
  expect([near.current("read"), near.current("write")]).toEqual(["resolver:1", "node:1"]);
  near.failed("resolver:1", 0);
  expect(near.current("read")).toBe("node:1");
  near.learn([found("node:1"), found("resolver:1", { kind: "resolver" })], HERE, 60_000);
  expect(near.current("read")).toBe("resolver:1");
  const far = knowing([found("node:1"), found("resolver:1", { kind: "resolver", region: "r2" })]);
  expect(far.current("read")).toBe("node:1");
});

test("when all that were found are lost, the seeds are asked again", () => {
  const book = knowing([found("a:1"), found("b:1")]);
  const asked = Array.from({ length: 3 }, () => {
    const server = book.current("write");
    book.failed(server, 0);
    return server;
  });
  expect(asked.toSorted()).toEqual(["a:1", "b:1", "seed:1"]);
});

test("an outage empties no list: an answer without servers and silence change nothing", () => {
  const book = knowing([found("a:1"), found("b:1")]);
  for (const server of book.list()) book.failed(server, 0);
  book.learn([], HERE, 1_000_000);
  expect(book.list()).toEqual(["seed:1", "a:1", "b:1"]);
  expect(book.list()).toContain(book.current("write"));
});

test("a server that the answers no longer name is kept for ten minutes, and then forgotten", () => {
  const book = knowing([found("a:1"), found("b:1")]);
  book.learn([found("a:1")], HERE, 599_000);
  expect(book.list()).toContain("b:1");
  book.learn([found("a:1")], HERE, 601_000);
  expect(book.list()).not.toContain("b:1");
});

test("an address that was only advertised is not used before it has answered, while anything else is left", () => {
  const book = new ServerList({ seeds: ["seed:1"], place: HERE, random: () => 0.5 });
  book.learn([found("a:1"), found("b:1")], HERE, 0);
  expect(book.current("write")).toBe("seed:1");
  expect(book.toProve(0)).toEqual(["a:1", "b:1"]);
  book.failed("a:1", 0);
  expect(book.toProve(0)).toEqual(["b:1"]);
  book.proven(["b:1"], 0);
  expect(book.current("write")).toBe("b:1");
});

test("a program stays with its server while no nearer one is there, whatever the load", () => {
  const book = knowing([found("a:1")]);
  book.learn([found("a:1", { load: 1 }), found("b:1", { load: 0 })], HERE, 1);
  book.proven(["b:1"], 1);
  expect(book.current("write")).toBe("a:1");
});

test("the place is that of the first server that says it, when the program says none", () => {
  const book = new ServerList({ seeds: ["seed:1"], place: undefined, random: () => 0.5 });
  book.learn([found("here:1"), found("there:1", { zone: "z2" })], { region: "r1", zone: "z2" }, 0);
  book.proven(["here:1", "there:1"], 0);
  expect(book.current("write")).toBe("there:1");
});

test("of equally far servers those that were named last are kept", () => {
  const book = new ServerList({ seeds: ["seed:1"], place: HERE, random: () => 0.5 });
  book.learn(
    Array.from({ length: MAX_FOUND }, (_, i) => found(`old${i}:1`)),
    HERE,
    0,
  );
  book.learn([found("new:1")], HERE, 1);
  expect([book.list().length, book.list().includes("new:1")]).toEqual([MAX_FOUND + 1, true]);
});

test("a seed that takes no writes does not take the reads of a resolver that was found", () => {
  const book = knowing([found("resolver:1", { kind: "resolver" })]);
  book.refusedWrites("seed:1", 0);
  expect(book.current("read")).toBe("resolver:1");
});

test("a node that was the last one left and failed is left for an equally near one as soon as that has answered", () => {
  const book = knowing([found("a:1")]);
  book.failed("a:1", 0);
  book.failed("seed:1", 0);
  expect(book.current("write")).toBe("a:1");
  book.learn([found("a:1"), found("b:1")], HERE, 0);
  book.proven(["b:1"], 0);
  expect(book.current("write")).toBe("b:1");
});

test("nodes that a resolver names are tried after seeds and proven nodes, keep what is known of them, and are bounded", () => {
  const book = knowing([found("node:1")], ["seed:1"]);
  book.named(["node:1", "seed:1", "named:1"], 0);
  expect(book.list()).toEqual(["seed:1", "node:1", "named:1"]);
  expect(book.current("write")).toBe("node:1");
  book.failed("node:1", 0);
  expect(book.current("write")).toBe("seed:1");
  book.failed("seed:1", 0);
  expect(book.current("write")).toBe("named:1");
  book.named(
    Array.from({ length: 200 }, (_, i) => `more${i}:1`),
    0,
  );
  expect(book.list()).toHaveLength(MAX_FOUND + 1);
});

test("the list of servers is bounded, and keeps the nearest", () => {
  const far = Array.from({ length: 200 }, (_, i) => found(`far${i}:1`, { region: "r2" }));
  const book = knowing([...far, found("near:1")]);
  expect(book.list()).toHaveLength(MAX_FOUND + 1);
  expect(book.list()).toContain("near:1");
});

test("a server that fails again after its rest rests again, and for longer", () => {
  const book = new ServerList({ seeds: ["a:1", "b:1", "c:1"], place: HERE, random: () => 0.99 });
  book.failed("a:1", 0);
  book.failed("a:1", 1000);
  book.failed("b:1", 1100);
  book.failed("c:1", 1150);
  // The first rests for twice as long as the second.
  expect(book.current("write")).toBe("b:1");
});

test("beside servers that refuse a read stands one that has answered, then a seed that does not rest, then any seed", () => {
  const seeds = ["a:1", "b:1"];
  const resolver = { kind: "resolver" as const };
  const book = knowing([found("far:1", { ...resolver, region: "r2" }), found("near:1", resolver), found("node:1", { zone: "z2" })], seeds);
  const refused = new Set<string>();
  const order = ["near:1", "node:1", "far:1", "b:1", "a:1", undefined];
  book.failed("a:1", 0);
  for (const next of order) {
    expect(book.beside(refused, 0)).toBe(next);
    refused.add(next ?? "");
  }
  expect(book.current("read")).toBe("near:1");
});
