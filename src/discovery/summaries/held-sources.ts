/** What readers of summaries are told of clusters, by what is held of their beacons. */
import type { Time } from "../../lib/machine.ts";
import type { HeldSummaries } from "../../summary/held/summaries.ts";
import type { KnownSources } from "./summary-reads.ts";

export function heldSources(held: HeldSummaries, now: () => Time): KnownSources {
  return {
    isStale: (record) => held.isStale(record, now()),
    staleSources: () => staleSourcesOf(held, now()),
    freshMs: (source) => held.freshMs(source, now()),
    ingressOf: (source) => held.beaconOf(source)?.ingress ?? [],
    ages: (time) => held.ages(time),
  };
}

/** Those that have not been heard of for their ttl. */
export function staleSourcesOf(held: HeldSummaries, time: Time): ReadonlySet<string> {
  return new Set(held.sources(time).flatMap(({ source, state }) => (state === "fresh" ? [] : [source])));
}
