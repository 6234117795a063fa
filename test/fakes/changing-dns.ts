/** A real catalog with its policy, as DNS reads it, and acts that change all that an answer may rest on. */
import fc from "fast-check";
import { BODY, HEALTH, type Health, type KeyText, KIND, type Kind, keyText, type OriginStatus } from "../../src/catalog/record/record.ts";
import { ENTRIES } from "../../src/catalog/replica/touch-sweeps.ts";
import { DnsNames } from "../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import type { DnsCatalog } from "../../src/dns/subject/subject.ts";
import { dnsCatalog } from "../../src/dns/views/catalog.ts";
import type { AddressBlock } from "../../src/lib/addresses.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "./policies.ts";
import { at, caller, draftAt, Registry } from "./registry.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
const NAMESPACES = ["m", "m.eu", "shop"] as const;
const NAMES = ["web", "eu"] as const;
const KINDS = [KIND.SERVICE, KIND.FUNCTION] as const;
const ALIASES = ["www.shop", "x.far.waymark", "deep.www.shop", "web.shop.waymark", "web.m.eu", "pay.m", "_x._tcp.far.m"] as const;
const HOSTS = ["10.0.0.1", "10.0.0.2", "eu.m.waymark", "www.shop.waymark", "else.example"] as const;
const CHANGING_BLOCK: AddressBlock = { bytes: Uint8Array.of(10, 0, 0, 0), prefixBits: 8 };
const LIVES: readonly OriginStatus[] = ["live", "orphaned"];

/** What is asked: names that exist, that are aliases, that lie above names, and that do not exist. */
export const ASKED: readonly (readonly ["A" | "CNAME" | "PTR" | "SRV" | "TXT", string])[] = [
  ["PTR", "_services._dns-sd._udp.m"],
  ["PTR", "_svc._tcp.web.m"],
  ["SRV", "1._svc._tcp.web.m"],
  ...NAMESPACES.flatMap((namespace) =>
    NAMES.flatMap((name) => [["A", `${name}.${namespace}`] as const, ["SRV", `_svc._tcp.${name}.${namespace}`] as const]),
  ),
  ...["www.shop", "deep.www.shop", "web.m.eu", "pay.m", "_tcp.web.m", "_tcp.far.m", "m", "eu", "shop", "far"].map(
    (name) => ["A", name] as const,
  ),
  ["CNAME", "pay.m"],
  ["TXT", "_rpc._tcp.web.m"],
  ["SRV", "_rpc._tcp.eu.shop"],
  ["PTR", "1.0.0.10.in-addr.arpa"],
  ["PTR", "2.0.0.10.in-addr.arpa"],
];

/** A question for one of these names, or for another one below the zone. */
export function fullName(name: string): string {
  return name.endsWith(".arpa") ? name : `${name}.waymark`;
}

/** The reverse zone of its addresses. */
export const CHANGING_ZONE = "10.in-addr.arpa";

interface Entry {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly instanceId: string;
}

export type DnsAct =
  | { readonly does: "put"; readonly by: "a" | "b"; readonly entry: Entry; readonly aliases: readonly string[]; readonly host: string }
  | { readonly does: "end"; readonly by: "a" | "b"; readonly entry: Entry }
  | { readonly does: "life"; readonly life: OriginStatus }
  | { readonly does: "sweep" | "forget" }
  | { readonly does: "policy"; readonly hidden: readonly string[] };

const someEntry: fc.Arbitrary<Entry> = fc.record({
  kind: fc.constantFrom(...KINDS),
  namespace: fc.constantFrom(...NAMESPACES),
  name: fc.constantFrom(...NAMES),
  instanceId: fc.constantFrom("1", "2"),
});
const someNode = fc.constantFrom<"a" | "b">("a", "b");

export const someDnsAct: fc.Arbitrary<DnsAct> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      does: fc.constant("put" as const),
      by: someNode,
      entry: someEntry,
      aliases: fc.subarray<string>([...ALIASES], { maxLength: 2 }),
      host: fc.constantFrom(...HOSTS),
    }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant("end" as const), by: someNode, entry: someEntry }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("life" as const), life: fc.constantFrom(...LIVES) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constantFrom("sweep" as const, "forget" as const) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("policy" as const), hidden: fc.subarray<string>([...NAMESPACES]) }) },
);

type Putting = Omit<DnsAct & { does: "put" }, "does"> & { readonly health?: Health };

export class ChangingDns {
  readonly catalog: DnsCatalog;
  readonly names: DnsNames;
  /** Entries that were looked at by their key. */
  viewedCount = 0;
  readonly #registry = new Registry();
  readonly #policies: { policy: Policy } = { policy: NO_POLICY };
  readonly #reads: CatalogReads;
  #turn = 0;

  constructor() {
    const { replica } = this.#registry;
    this.#reads = new CatalogReads(replica, NODE, { policies: this.#policies, onDenied: () => {} });
    this.names = new DnsNames(replica, ["waymark"], [CHANGING_BLOCK]);
    const { names } = this;
    const view: DnsNames["view"] = (key) => {
      this.viewedCount += 1;
      return names.view(key);
    };
    this.catalog = dnsCatalog(() => 0, {
      reads: this.#reads,
      replica,
      dnsNames: {
        view,
        catchUp: () => names.catchUp(),
        findAlias: (...args) => names.findAlias(...args),
        follow: (follower) => names.follow(follower),
        hasNameUnder: (...args) => names.hasNameUnder(...args),
        namesAt: (address) => names.namesAt(address),
      },
      identity: NODE,
      policies: this.#policies,
    });
  }

  do(act: DnsAct): void {
    const time = at((this.#turn += 1));
    const { replica } = this.#registry;
    const origin = replica.origins.get("b/1");
    switch (act.does) {
      case "put":
        return this.put(act, time);
      case "end":
        return this.#end(act, time);
      case "life":
        // As the fabric does: the state changes at once, and the records are touched in slices.
        if (origin === undefined || origin.life === act.life) return;
        origin.life = act.life;
        return replica.sweeps.scheduleTouch(origin, ENTRIES);
      case "sweep":
        return void replica.sweep(1, time);
      case "forget":
        return origin === undefined ? undefined : replica.forgetOrigin(origin, time);
      case "policy":
        this.#policies.policy = new Policy(
          set(
            act.hidden.map((pattern) => rule(pattern, { visibilityTenants: ["blue"] })),
            { defaultAllow: true },
          ),
          this.#turn,
        );
        this.#reads.show(this.#policies.policy);
        return this.#reads.settle(this.#policies.policy);
    }
  }

  put({ by, entry, aliases, host, health = HEALTH.UNSET }: Putting, time = at((this.#turn += 1))): void {
    const draft = draftAt({ ...entry }, { aliases: [...aliases], targets: [{ host, port: 80 + this.#turn, protocol: "tcp" }], health });
    if (by === "a") this.#registry.register("ann", [draft], time, { isStatic: true });
    else this.#receive(draft, BODY.ENTRY);
  }

  #end({ by, entry }: DnsAct & { does: "end" }, time: ReturnType<typeof at>): void {
    if (by === "b") return this.#receive(draftAt({ ...entry }, {}), BODY.UNREGISTERED);
    const key: KeyText = keyText({ ...entry, clusterId: "c1" });
    this.#registry.registrar.unregisterKeys(caller("ann"), [key], time);
    this.#registry.flush(time);
  }

  #receive(draft: ReturnType<typeof draftAt>, body: typeof BODY.ENTRY | typeof BODY.UNREGISTERED): void {
    // A forgotten origin says nothing more.
    if (this.#registry.replica.forgotten.has("b/1")) return;
    this.#registry.receive(draft, { body, hlcMs: this.#turn, nodeId: "b" }, at(this.#turn));
  }
}
