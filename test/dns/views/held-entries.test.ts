/** The DNS of a resolver has the names of what it only holds, because its upstream lost too much of a name at once (semantics.md, Resolver 16 and 23). */
import { expect, test } from "vitest";
import { BODY, keyParts, keyText } from "../../../src/catalog/record/record.ts";
import { AliasOwnerCache, aliasOwnersFrom } from "../../../src/dns/views/alias-owners.ts";
import { dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { FetchingRemoteLookup } from "../../../src/dns/views/fetching-remote-lookup.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { epochOf } from "../../../src/policy/set/verdict.ts";
import { holds } from "../../../src/services/resolving/remote-lookups.ts";
import { responseText } from "../../fakes/dns-text.ts";
import { KEYS } from "../../fakes/mesh.ts";
import { version } from "../../fakes/policy-versions.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";
import { newResponder, questionBytes } from "../asking.ts";

const SECOND = 1000;
const INSTANCES = ["1", "2", "3"].map((instanceId) => keyText({ ...keyParts(KEYS[0]!), instanceId }));
const QUESTIONS = ["db.svc", "_svc._tcp.db.svc", "shop.example", "example", "svc", "none.svc"] as const;

/** A resolver that follows `svc`, where `db` has three instances with an alias. Its server knows nothing of aliases, nor of what lies below a name. */
class World {
  readonly world: ResolverWorld;
  readonly #responder = newResponder();
  readonly #catalog: ReturnType<typeof dnsCatalog>;

  constructor(namespaces: readonly string[] = ["svc"]) {
    const world = new ResolverWorld(["a"], { namespaces });
    this.world = world;
    const { rooms, machine } = world;
    world.server("a").node.aliases = ["shop.example"];
    for (const key of INSTANCES) world.put("a", key);
    world.run(2 * SECOND);
    const remoteLookup = new FetchingRemoteLookup({
      machine,
      isHeld: (name) => holds(machine, name),
      ask: world.port,
      aliasOwners: new AliasOwnerCache({ ttlMs: 1, negativeMs: 1, maxStaleMs: 1, maxBytes: 100_000 }),
      askAliasOwners: (name, zone, told) => queueMicrotask(() => told(aliasOwnersFrom(name, zone, [], { isMore: false, maxBytes: 0 }))),
      inputCount: () => rooms.inputs.count,
      judgedRevision: () => rooms.reads.policyRevision + machine.releaseCount,
      now: () => world.now,
    });
    const { reads, replica, dnsNames, policies } = rooms;
    this.#catalog = dnsCatalog(() => 0, { reads, replica, dnsNames, identity: { clusterId: "c1" }, policies, remoteLookup });
  }

  end(body: 1 | 2, keys: readonly string[] = INSTANCES): void {
    for (const key of keys) this.world.end("a", key, body);
    this.world.run(SECOND);
  }

  /** Of each question the code, and how many records of the answer section name an address or a port. */
  async answers(questions: readonly string[] = QUESTIONS): Promise<string> {
    const answers: string[] = [];
    for (const name of questions) answers.push(await this.#answer(name));
    return answers.join(", ");
  }

  /** The extended errors (RFC 8914) of the answers to A. */
  async extendedErrors(questions: readonly string[]): Promise<readonly (number | undefined)[]> {
    await this.answers(questions);
    return questions.map((name) => {
      const { plan, prepared } = this.#responder.plans.plan({ name: `${name}.waymark`, type: 1, class: 1 }, this.#catalog);
      return (prepared ?? plan)?.extendedError;
    });
  }

  async #answer(name: string): Promise<string> {
    const question = questionBytes(name.startsWith("_") ? "SRV" : "A", `${name}.waymark`);
    const waited = new Set<string>();
    for (;;) {
      const reply = this.#responder.respond(question, "tcp", () => onlyView(this.#catalog));
      if (reply === undefined || reply.fault !== undefined) throw new Error("no answer", { cause: reply?.fault });
      const { unknown } = reply;
      if (unknown !== undefined && !waited.has(unknown.key)) {
        waited.add(unknown.key);
        this.world.run(100);
        await unknown.arrival;
        continue;
      }
      const [code = "", ...lines] = responseText(reply.bytes).split("\n");
      const count = lines.filter((line) => /^answer .* (?:A|SRV) /.test(line)).length;
      return `${code.replace(" aa", "")}${count === 0 ? "" : ` ${count}`}`;
    }
  }
}

const THERE = "NOERROR 3, NOERROR 3, NOERROR 3, NOERROR, NOERROR, NXDOMAIN";
const ABSENT = "NXDOMAIN, NXDOMAIN, NXDOMAIN, NXDOMAIN, NXDOMAIN, NXDOMAIN";

test("a name whose instances expired all at once goes on having its addresses, its ports, its alias and the names above it, for as long as it is held", async () => {
  const world = new World();
  expect(await world.answers()).toBe(THERE);
  world.end(BODY.EXPIRED);
  expect(world.world.machine.statistics(world.world.now).heldCount).toBe(3);
  expect(await world.answers()).toBe(THERE);
  world.world.run(300 * SECOND, SECOND);
  expect(await world.answers()).toBe(ABSENT);
});

test("an answer with entries that are held says that it is stale, by name and by alias, as long as one of them is held", async () => {
  const world = new World();
  const told = () => world.extendedErrors(["db.svc", "shop.example"]);
  expect(await told()).toEqual([undefined, undefined]);
  world.end(BODY.EXPIRED);
  expect(await told()).toEqual([3, 3]);
  for (const key of INSTANCES) world.world.put("a", key);
  world.world.run(SECOND);
  expect(await told()).toEqual([undefined, undefined]);
});

test("what was unregistered has no name any more, and what is there again has each name once", async () => {
  const world = new World();
  world.end(BODY.EXPIRED);
  world.world.put("a", INSTANCES[0]!);
  world.world.run(SECOND);
  // Addresses are those of the best health.
  expect(await world.answers()).toBe("NOERROR 1, NOERROR 3, NOERROR 1, NOERROR, NOERROR, NXDOMAIN");
  for (const key of INSTANCES.slice(1)) world.world.endAgain("a", key);
  world.end(BODY.UNREGISTERED, INSTANCES.slice(0, 1));
  expect(await world.answers()).toBe(ABSENT);
});

test("what is not followed any more is held no longer, and has no name here", async () => {
  const world = new World([]);
  const { world: resolver } = world;
  resolver.machine.following.watch("svc");
  resolver.run(SECOND);
  world.end(BODY.EXPIRED);
  const above = ["shop.example", "example", "svc"];
  expect(await world.answers(above)).toBe("NOERROR 3, NOERROR, NOERROR");
  resolver.machine.following.unwatch("svc");
  resolver.run(20 * SECOND);
  expect(resolver.machine.statistics(resolver.now).heldCount).toBe(0);
  expect(await world.answers(above)).toBe("NXDOMAIN, NXDOMAIN, NXDOMAIN");
});

test("what policy hides is held no longer, and has no records", async () => {
  const world = new World();
  world.end(BODY.EXPIRED);
  const { world: resolver } = world;
  Object.assign(resolver.server("a"), { versions: [version(1)], policyEpoch: epochOf(version(1).head) });
  resolver.changeCredentials();
  resolver.run(60 * SECOND);
  expect(resolver.machine.statistics(resolver.now).heldCount).toBe(0);
  // No address and no port. What such names are answered instead says nothing of what there is (23).
  expect(await world.answers()).not.toMatch(/\d/);
});
