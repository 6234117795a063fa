/** Many queries, whole and damaged, through a responder: names, types, options and views, over UDP and TCP. */
import { inspect } from "node:util";
import { Responder } from "../../src/dns/server/responder.ts";
import { onlyView, type Selected } from "../../src/dns/views/asker.ts";
import { Rng } from "../../src/lib/rng.ts";
import { anyQuery, isAnswerable, wrongWith } from "./dns-packets.ts";
import { SECRET_SETTINGS, secretCatalogs } from "./dns-secrets.ts";
import { SETTINGS } from "./options.ts";

export interface FuzzOutcome {
  /** What was wrong with the first answer with which something was, and its query; undefined if nothing was. */
  readonly wrong: string | undefined;
  readonly rcodes: ReadonlySet<string>;
  /** How many answers had records or were about a name that is there, by view. */
  readonly shown: readonly number[];
}

export function fuzzResponder(seed: string, count: number): FuzzOutcome {
  const rng = new Rng(`dns fuzz ${seed}`);
  const responder = new Responder({
    settings: SECRET_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => rng.next(),
    serialOf: () => 7,
  });
  const views = secretCatalogs().map(onlyView);
  const rcodes = new Set<string>();
  const shown = views.map(() => 0);
  const failed = (what: string, nth: number, query: Uint8Array): FuzzOutcome => ({
    wrong: `${what}; packet ${nth} of seed ${seed}: ${Buffer.from(query).toString("hex")}`,
    rcodes,
    shown,
  });
  for (let nth = 0; nth < count; nth++) {
    const query = anyQuery(rng);
    const isTcp = rng.int(3) === 0;
    const view = rng.int(views.length);
    const selected: Selected = rng.int(50) === 0 ? { refused: 18 } : (views[view] ?? { refused: 18 });
    const reply = responder.respond(query, isTcp ? "tcp" : "udp", () => selected);
    if ((reply !== undefined) !== isAnswerable(query)) return failed("an answer is missing, or too much", nth, query);
    if (reply === undefined) continue;
    rcodes.add(reply.rcode);
    if (reply.rcode === "NOERROR") shown[view] = (shown[view] ?? 0) + 1;
    const wrong = reply.fault === undefined ? wrongWith(query, reply.bytes, { isTcp, view, nth }) : inspect(reply.fault);
    if (wrong !== undefined) return failed(wrong, nth, query);
  }
  return { wrong: undefined, rcodes, shown };
}
