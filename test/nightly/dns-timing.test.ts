/** How long what is hidden takes, beside what is absent: blocks of questions in turns, and the medians of the blocks. The work itself is counted in `test/dns/server/hidden.test.ts`. */
import { expect, test } from "vitest";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { HiddenAnswers } from "../../src/node/limits.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { SECRET_SETTINGS, secretCatalogs } from "../fakes/dns-secrets.ts";
import { queryBytes } from "../fakes/dns-text.ts";
import { SETTINGS } from "../fakes/options.ts";

const HIDDEN = "rubyred";
const ABSENT = "emerald";
const BLOCKS = 60;
const PER_BLOCK = 2000;
/** How often a block asks for names whose answers are kept, which are told much quicker. */
const TIMES = 20;
/** What comes first is slower, because nothing is compiled yet. */
const WARM_UP = 10;
/** A neighbour of the machine may make one measurement differ, but not each. */
const TRIES = 5;

const median = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;

test.each([
  { what: "names that were not asked for before", forms: ["#.@", "_svc._tcp.#.@", "#.web.@", "#.deep.below.@"], times: 1 },
  { what: "names whose answers are kept", forms: ["web.@", "_svc._tcp.web.@", "@", "sum.@"], times: TIMES },
])("$what: hidden ones take as long as absent ones, within 5 %", ({ what, forms, times }) => {
  const ratios: number[] = [];
  while (ratios.length < TRIES && !ratios.some(isNearOne)) ratios.push(ratioOf(forms, times));
  console.error(`${what}: hidden to absent ${ratios.map((ratio) => ratio.toFixed(3)).join(", ")}`);
  expect(ratios.some(isNearOne)).toBe(true);
});

const isNearOne = (ratio: number): boolean => Math.abs(ratio - 1) < 0.05;

function ratioOf(forms: readonly string[], repeats: number): number {
  // As a node notes what its answers lack.
  const noted = new HiddenAnswers(() => undefined);
  const caller = anonymousCaller("c1", "");
  const [anonymous] = secretCatalogs(undefined, (namespaces) => noted.note(caller, "192.0.2.1", namespaces));
  if (anonymous === undefined) throw new Error("there is an anonymous view");
  const view = onlyView(anonymous);
  const responder = new DnsResponder({
    settings: SECRET_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 7,
  });
  let number = 100_000;
  const timed = (word: string): number => {
    const queries = Array.from({ length: PER_BLOCK }, () => {
      number += 1;
      const name = (forms[number % forms.length] ?? "").replace("#", `${number}`).replace("@", word);
      return queryBytes({ name: `${name}.waymark`, type: number % 2 === 0 ? "A" : "SRV" });
    });
    const beganMs = performance.now();
    for (let n = 0; n < repeats; n++) for (const query of queries) responder.respond(query, "tcp", () => view);
    const tookMs = performance.now() - beganMs;
    noted.reportAll({ monoMs: 0, wallMs: 0 });
    return tookMs;
  };
  const times: Record<string, number[]> = { [HIDDEN]: [], [ABSENT]: [] };
  for (let block = 0; block < BLOCKS; block++) {
    for (const word of block % 2 === 0 ? [HIDDEN, ABSENT] : [ABSENT, HIDDEN]) {
      const ms = timed(word);
      if (block >= WARM_UP) times[word]?.push(ms);
    }
  }
  return median(times[HIDDEN] ?? []) / median(times[ABSENT] ?? []);
}
