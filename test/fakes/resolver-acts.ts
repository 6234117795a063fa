/** What may happen around a resolver: entries come and go, servers break in every way, callers ask, time passes. */
import fc from "fast-check";
import { expect } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { KEYS } from "./mesh.ts";
import type { ResolverWorld } from "./resolver-world.ts";

export const SERVERS = ["a", "b", "c"];
const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const OTHER: InstanceName = { kind: KIND.SERVICE, namespace: "other", name: "db" };
const NAMES: readonly InstanceName[] = [DB, OTHER, { ...DB, name: "web" }, { ...DB, namespace: "svc.eu" }, { ...OTHER, name: "none" }];
const SECOND = 1000;
const MINUTE = 60 * SECOND;

export interface Act {
  readonly kind: "put" | "end" | "down" | "up" | "silent" | "garble" | "ask" | "run";
  readonly server: number;
  readonly key: number;
  readonly detail: number;
}

export const act: fc.Arbitrary<Act> = fc.record({
  kind: fc.constantFrom<Act["kind"]>("put", "put", "end", "down", "up", "silent", "garble", "ask", "ask", "run", "run"),
  server: fc.nat(2),
  key: fc.nat(KEYS.length - 1),
  detail: fc.nat(99),
});

/** Does one thing. */
export function take(world: ResolverWorld, { kind, server: which, key, detail }: Act): void {
  const name = SERVERS[which]!;
  const server = world.server(name);
  switch (kind) {
    case "put":
      return world.put(name, KEYS[key]!, detail);
    case "end":
      return world.end(name, KEYS[key]!, detail % 2 === 0 ? BODY.EXPIRED : BODY.UNREGISTERED);
    case "down":
      server.isUp = false;
      return;
    case "up":
      Object.assign(server, { isUp: true, isSilent: false, garble: (bytes: Uint8Array) => bytes });
      return;
    case "silent":
      server.isSilent = true;
      return;
    case "garble":
      server.garble = (bytes) => bytes.subarray(0, bytes.length - (detail % 5));
      return;
    case "ask":
      world.ask(NAMES[detail % NAMES.length]!);
      return;
    case "run":
      world.run(1 + detail * 50);
  }
}

/** Once its servers are well again it answers everything as they do, and says that it is fresh. */
export function expectAsServers(world: ResolverWorld): void {
  for (const server of SERVERS.keys()) take(world, { kind: "up", server, key: 0, detail: 0 });
  // Longer than anything is held, fetched or left alone.
  world.run(6 * MINUTE, SECOND);
  const current = world.server(world.machine.upstreams.current ?? "");
  for (const name of NAMES) {
    if (world.ask(name) === "told") world.ask(name);
    const { namespace, kind, name: text } = name;
    const want = current.node.model.answer({ ...ANY, namespace, names: [text], kindMask: 1 << kind }, current.node.facts, () => true);
    const isFollowed = world.machine.lookupsOf(namespace).includes(world.replica.lookup);
    // An answer that was fetched has no numbers.
    const plainOf = (line: string) => (isFollowed ? line : line.replace(/ \S+ /, " "));
    expect(world.instances(name).map(plainOf)).toEqual(want.map(plainOf));
    expect(world.ask(name)).toMatch(/^(?:followed|fetched) \d+$/);
  }
}
