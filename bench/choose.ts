/** What a choice of a client costs: among 100,000 endpoints of 10,000 names, and of one name; by each policy; and what changes cost. */
import { Rng } from "../src/lib/rng.ts";
import { Chooser } from "../src/reading/chooser.ts";
import type { Candidate, Endpoint } from "../src/reading/endpoint.ts";
import { SELECT_POLICY, type SelectPolicy } from "../src/reading/levels.ts";
import { type CallCosts, callCosts, costRows, costsNote } from "./_call-costs.ts";
import { report } from "./_results.ts";

const ENDPOINTS = 100_000;
const WALL = 1_760_000_000_000;
const time = { monoMs: 1, wallMs: WALL };
const rng = new Rng(1);
const random = () => rng.next();

function at<T>(list: readonly T[], i: number): T {
  const item = list[i];
  if (item === undefined) throw new Error(`no item ${i}`);
  return item;
}

function candidateOf(name: number, i: number): Candidate {
  const key = `svc.market\0checkout-${name}\u00001\0checkout-${name}-6d4cf56db6-${i}\0c1`;
  const load = { utilization: random(), errorRate: 0, latencyMs: 20, activeClients: 3, observedWallMs: WALL - 5000 };
  return { key, view: { region: "eu", zone: i % 2 === 0 ? "a" : "b", health: 1, load, targets: [{ priority: 0, weight: 1 }] } };
}

interface World {
  readonly choosers: readonly Chooser<Candidate>[];
  readonly all: readonly (readonly Candidate[])[];
}

function worldOf(names: number, policy: SelectPolicy, isLoaded: boolean): World {
  const all = Array.from({ length: names }, (_, name) =>
    Array.from({ length: ENDPOINTS / names }, (_each, i) => {
      const candidate = candidateOf(name, i);
      return isLoaded ? candidate : { ...candidate, view: { ...candidate.view, load: undefined } };
    }),
  );
  const choosers = all.map((candidates) => {
    const chooser = new Chooser<Candidate>({ policy, region: "eu", zone: "a", start: random() });
    for (const candidate of candidates) chooser.put(candidate);
    return chooser;
  });
  return { choosers, all };
}

const results: Record<string, CallCosts> = {};

for (const names of [10_000, 1]) {
  const what = names === 1 ? "one name" : "10,000 names";
  for (const [policy, isLoaded, text] of [
    [SELECT_POLICY.LOAD_AWARE, true, "by load"],
    [SELECT_POLICY.LOAD_AWARE, false, "in turn"],
    [SELECT_POLICY.RANDOM, false, "at random"],
  ] as const) {
    const { choosers, all } = worldOf(names, policy, isLoaded);
    const chooserAt = (i: number) => at(choosers, (i * 7919) % names);
    results[`${text}, ${what}`] = callCosts((i) => chooserAt(i).choose(time, random));
    if (!isLoaded) continue;
    const chosen: Endpoint<Candidate>[] = [];
    results[`call begun, ${what}`] = callCosts((i) => {
      const endpoint = chooserAt(i).choose(time, random);
      if (endpoint === undefined) return;
      chooserAt(i).started(endpoint);
      chosen[i] = endpoint;
    });
    results[`call ended, ${what}`] = callCosts((i) => chooserAt(i).succeeded(at(chosen, i), 3, time));
    results[`put again, ${what}`] = callCosts((i) => {
      const candidates = at(all, (i * 7919) % names);
      return chooserAt(i).put(at(candidates, (i * 31) % candidates.length));
    });
  }
  if (names === 1) continue;
  const { choosers } = worldOf(names, SELECT_POLICY.HASH, false);
  const wishes = Array.from({ length: 1000 }, (_, i) => ({ hashKey: `user-${i}`, avoid: undefined }));
  results[`by hash, ${what}`] = callCosts((i) => at(choosers, (i * 7919) % names).choose(time, random, at(wishes, i % 1000)));
}

report({
  name: "choose",
  tables: { "a choice among 100,000 endpoints, without the map around it": costRows(results) },
  goals: [],
  notes: [
    costsNote,
    'The selection alone, that of clients and of the server\'s `Resolve`: "resolve" measures it with the map and the lookup of a name. A change is "put again".',
  ],
});
