/** Many queries, whole and damaged, through a responder: names, types, options and views, over UDP and TCP. */
import { inspect } from "node:util";
import { PUBLIC_KEY_BYTES, SIGNATURE_BYTES, zoneKey } from "../../src/dns/records/dnssec.ts";
import { DnsResponder, type ResponderReply } from "../../src/dns/server/responder.ts";
import { ZoneSigner, type ZoneSigningKeys } from "../../src/dns/signing/zone-signer.ts";
import { onlyView, type ViewSelection } from "../../src/dns/views/query-client.ts";
import { Rng } from "../../src/lib/rng.ts";
import { anyQuery, isAnswerable, wrongWith } from "./dns-packets.ts";
import { absentTwin, SECRET_SETTINGS, secretCatalogs } from "./dns-secrets.ts";
import { SETTINGS } from "./options.ts";

export interface FuzzOutcome {
  /** What was wrong with the first answer with which something was, and its query; undefined if nothing was. */
  readonly wrong: string | undefined;
  readonly rcodes: ReadonlySet<string>;
  /** How many answers had records or were about a name that is there, by view. */
  readonly shown: readonly number[];
  /** How many answers about what is hidden were held beside one about what is absent. */
  readonly twinCount: number;
  readonly signatureCount: number;
}

/** Signs in no time, and always with the same bytes: what is signed is not what is tried. */
const QUICK_KEYS: ZoneSigningKeys = {
  keys: [zoneKey(new Uint8Array(PUBLIC_KEY_BYTES).fill(1))],
  version: 0,
  sign: () => new Uint8Array(SIGNATURE_BYTES).fill(2),
};
const PACKETS_PER_SECOND = 10_000;

/** One in so many questions about something hidden is asked about something absent too. */
const TWIN_EACH = 4;

/** What an answer says without what it says it about. */
function toldBy({ rcode, isTruncated, bytes }: ResponderReply): string {
  return `${rcode} ${isTruncated} ${bytes.length} ${Buffer.from(bytes.subarray(6, 12)).toString("hex")}`;
}

/** `isSigned`: the zones are signed, for those who ask with DO. */
export function fuzzResponder(seed: string, count: number, { isSigned = false } = {}): FuzzOutcome {
  const rng = new Rng(`dns fuzz ${seed}`);
  const time = { monoMs: 0, wallMs: 1_800_000_000_000 };
  const signer = isSigned ? new ZoneSigner({ keys: QUICK_KEYS, now: () => time }) : undefined;
  const responder = new DnsResponder({
    signer,
    settings: { ...SECRET_SETTINGS, zoneKeys: signer && (() => signer.keys) },
    planBytes: SETTINGS.dns.planBytes,
    random: () => rng.next(),
    serialOf: () => 7,
  });
  const views = secretCatalogs().map(onlyView);
  const rcodes = new Set<string>();
  const shown = views.map(() => 0);
  let twinCount = 0;
  const outcome = () => ({ rcodes, shown, twinCount, signatureCount: signer?.madeCount ?? 0 });
  const failed = (what: string, nth: number, query: Uint8Array): FuzzOutcome => ({
    wrong: `${what}; packet ${nth} of seed ${seed}: ${Buffer.from(query).toString("hex")}`,
    ...outcome(),
  });
  for (let nth = 0; nth < count; nth++) {
    time.monoMs = Math.floor((1000 * nth) / PACKETS_PER_SECOND);
    const query = anyQuery(rng);
    const isTcp = rng.int(3) === 0;
    const view = rng.int(views.length);
    const selected: ViewSelection = rng.int(50) === 0 ? ({ isRefused: true } as const) : (views[view] ?? { isRefused: true });
    const reply = responder.respond(query, isTcp ? "tcp" : "udp", () => selected);
    if ((reply !== undefined) !== isAnswerable(query)) return failed("an answer is missing, or too much", nth, query);
    if (reply === undefined) continue;
    rcodes.add(reply.rcode);
    if (reply.rcode === "NOERROR") shown[view] = (shown[view] ?? 0) + 1;
    const wrong = reply.fault === undefined ? wrongWith(query, reply.bytes, { isTcp, view, nth }) : inspect(reply.fault);
    if (wrong !== undefined) return failed(wrong, nth, query);
    const twin = isSigned || nth % TWIN_EACH !== 0 ? undefined : absentTwin(query, view);
    if (twin === undefined) continue;
    const told = toldBy(reply);
    const absent = responder.respond(twin, isTcp ? "tcp" : "udp", () => selected);
    if (absent === undefined || toldBy(absent) !== told) return failed("what is hidden is answered as nothing absent is", nth, query);
    twinCount += 1;
  }
  return { wrong: undefined, ...outcome() };
}
