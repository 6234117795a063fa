/**
 * Knot and NSD take the zone from our gateway by AXFR with a key (TSIG), and generated questions, a hundred thousand at night, get the same answers from all three.
 *
 * Compared are the code, the AA flag, the answer section in any order and without TTLs, and the SOA of a negative answer without its serial. Exceptions, which the questions leave out:
 * ANY (ours is HINFO, RFC 8482), classes other than IN, and addresses below `addr.node` that no record names (ours answers each). Left out of the answers: the
 * additional section, and the NS records that NSD adds.
 *
 * @module-tag path
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packet, { type Answer } from "dns-packet";
import { describe, expect, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Rng } from "../../src/lib/rng.ts";
import { dig } from "../fakes/dig.ts";
import { sized } from "../fakes/effort.ts";
import { startNodeProcess, withClient } from "../fakes/node-process.ts";
import { DnsAsker, type Primary, startZoneServer } from "../fakes/zone-servers.ts";
import { zoneLine } from "../fakes/zone-text.ts";
import { areZoneServersThere } from "./needs.ts";

const ZONE = "waymark";
const QUESTIONS = sized(100_000, 4_000);
/** Asked at a time: fewer than the default of a socket's buffer holds. */
const AT_ONCE = 100;
const ADDRESSES = `addr.node.${ZONE}`;
/** By number, as dns-packet knows no name for some: HTTPS and SVCB, and one that nobody has. */
const TYPES = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33, SVCB: 64, HTTPS: 65, unknown: 4711 } as const;
const CODES = Object.values(TYPES);
const SERVICES = 40;
const isThere = await areZoneServersThere();

interface Asked {
  readonly name: string;
  readonly type: number;
}

function queryOf({ name, type }: Asked): Uint8Array {
  const labels = name === "" ? [] : name.split(".").map((label) => Buffer.from(label, "latin1"));
  const question = [...labels.flatMap((label) => [label.length, ...label]), 0, type >> 8, type & 255, 0, 1];
  // With EDNS, so that 1232 bytes fit.
  return Uint8Array.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, ...question, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
}

function withoutTtl(record: Answer): readonly string[] {
  const line = zoneLine(record)?.replace(/ \d+ IN /, " IN ");
  return line === undefined ? [] : [line.replace(/^\S+/, (owner) => owner.toLowerCase())];
}

/** The zone that the others have may be the one before the last: a change is in the next version, within a second. */
function withoutSerial(line: string): string {
  return line.replace(/( IN SOA \S+ \S+) \d+/, "$1");
}

function told(message: Buffer): string {
  const { answers = [], authorities = [], ...rest } = packet.decode(message);
  if (rest.flag_tc) throw new Error("an answer does not fit");
  const rcode = (message[3] ?? 0) & 0x0f;
  const soa = authorities.filter(({ type }) => type === "SOA");
  const [records, denial] = [answers, soa].map((each) => each.flatMap(withoutTtl).map(withoutSerial).toSorted());
  // How much of the SOA's names is a pointer into the question, and so has its letters, is for each server to choose.
  const negative = denial?.map((line) => line.replace(/(?<= IN SOA ).*/, (data) => data.toLowerCase()));
  return [`${rcode} ${rest.flag_aa ? "aa" : ""}`, ...(records ?? []), ...(negative ?? [])].join("\n");
}

function kindOf(answer: string): "found" | "empty" | "absent" | "refused" {
  const [head = "", first = ""] = answer.split("\n");
  if (head.startsWith("3")) return "absent";
  if (head.startsWith("5")) return "refused";
  return first === "" || first.includes(" IN SOA ") ? "empty" : "found";
}

function entries() {
  return Array.from({ length: SERVICES }, (_, n) => {
    const namespace = ["market", "svc.market", "prod.us-east"][n % 3] ?? "";
    const targets = Array.from({ length: 1 + (n % 4) }, (_unused, i) => ({
      host: i === 3 ? `2001:db8::${n}` : `10.${n}.0.${i + 1}`,
      port: 8000 + i,
      protocol: ["tcp", "https", "h2"][n % 3] ?? "",
      name: i === 0 ? "http" : "",
      weight: i,
    }));
    const [kind] = n % 10 === 9 ? [EntryKind.FUNCTION] : n % 10 === 8 ? [EntryKind.QUEUE] : [EntryKind.SERVICE];
    const outside = [{ host: `db-${n}.example.com`, port: 5432, protocol: "tcp" }];
    return {
      key: { kind, namespace, name: `web-${n}`, instanceId: "1" },
      targets: n % 7 === 3 ? outside : targets,
      tags: [`tag-${n}`],
      metadata: { note: 'a quote " and a \\ and ü' },
      aliases: n % 5 === 0 ? [`old-${n}.${namespace}`, `pod-0.web-${n}.${namespace}`] : [],
    };
  });
}

/** Names that may have records, of which the others hold those that do. */
function candidates(nodeId: string): readonly string[] {
  const services = entries().flatMap(({ key: { name, namespace }, aliases }) => [
    `${name}.${namespace}.${ZONE}`,
    `1._svc._tcp.${name}.${namespace}.${ZONE}`,
    ...[namespace, `${name}.${namespace}`].map((domain) => `_services._dns-sd._udp.${domain}.${ZONE}`),
    ...["_svc", "_rpc", "_mpreg", "_queue", "_http"].map((first) => `${first}._tcp.${name}.${namespace}.${ZONE}`),
    ...aliases.map((alias) => `${alias}.${ZONE}`),
  ]);
  return [ZONE, `${nodeId.toLowerCase()}.node.${ZONE}`, ...services];
}

/** All records that our gateway answers about these names, and about those that its answers mention. */
async function collected(ours: DnsAsker, first: readonly string[]): Promise<ReadonlySet<string>> {
  const records = new Set<string>();
  const names = new Set(first);
  for (const name of names)
    for (const type of CODES) {
      const { answers = [], additionals = [] } = packet.decode(await ours.ask(queryOf({ name, type })));
      for (const record of [...answers, ...additionals]) {
        for (const line of withoutTtl(record)) records.add(withoutSerial(line));
        if (record.name.endsWith(ZONE)) names.add(record.name.toLowerCase());
      }
    }
  return records;
}

/** Owner and type of each set that a transfer has. */
async function transferred({ at, keyName, secret }: Primary): Promise<readonly string[]> {
  const printed = await dig(at, "-y", `hmac-sha256:${keyName}:${secret}`, "+noall", "+answer", ZONE, "AXFR");
  const lines = printed.split("\n").map((line) => line.split(/\s+/));
  return setsOf(lines.flatMap(([owner = "", , , type = ""]) => (type === "" || type === "TSIG" ? [] : [`${owner} ${type}`])));
}

/** In order, each once. What dns-packet knows no name for has a number. */
function setsOf(sets: readonly string[]): readonly string[] {
  const named = sets.map((set) => set.replace(/TYPE64$/, "SVCB").replace(/TYPE65$/, "HTTPS"));
  return [...new Set(named)].toSorted();
}

function upperCased(rng: Rng, name: string): string {
  return name.replaceAll(/[a-z]/g, (letter) => (rng.uint32() % 2 === 0 ? letter : letter.toUpperCase()));
}

/** A name that is there, above, below or beside one. */
function drawn(rng: Rng, owners: readonly string[]): string {
  const owner = owners[rng.uint32() % owners.length] ?? ZONE;
  const labels = owner.split(".");
  const ways = [
    () => owner,
    () => owner,
    () => upperCased(rng, owner),
    () => labels.slice(rng.uint32() % labels.length).join("."),
    () => `${["x", "_tcp", "_svc", "www", "*"][rng.uint32() % 5] ?? ""}.${owner}`,
    () => labels.with(rng.uint32() % labels.length, `n${rng.uint32() % 1000}`).join("."),
    () => labels.toSpliced(rng.uint32() % labels.length, 1).join("."),
  ];
  return ways[rng.uint32() % ways.length]?.() ?? owner;
}

function questions(owners: readonly string[]): readonly Asked[] {
  const rng = new Rng("dns-servers");
  const known = new Set(owners);
  const isOurs = (name: string) => known.has(name.toLowerCase()) || !name.toLowerCase().endsWith(`.${ADDRESSES}`);
  const asked: Asked[] = [];
  while (asked.length < QUESTIONS) {
    const name = drawn(rng, owners);
    if (isOurs(name)) asked.push({ name, type: CODES[rng.uint32() % CODES.length] ?? 1 });
  }
  return asked;
}

describe.skipIf(!isThere)(`Knot and NSD${isThere ? "" : " (skipped: needs knotd and nsd)"}`, () => {
  test(`that take our zone answer ${QUESTIONS} questions as our gateway does`, async () => {
    const key = { keyName: "secondary.example", secret: Buffer.from("a secret of thirty-two characters").toString("base64") };
    const folder = mkdtempSync(join(tmpdir(), "waymark-zone-key-"));
    writeFileSync(join(folder, "key"), key.secret, { mode: 0o600 });
    writeFileSync(join(folder, "node.toml"), `[[dns.transfer_keys]]\nname = "${key.keyName}"\nsecret_file = "${join(folder, "key")}"\n`);
    await using node = await startNodeProcess(["--ephemeral", "--config", join(folder, "node.toml")]);
    rmSync(folder, { recursive: true });
    await withClient(node, async (client) => {
      await using registered = await client.register(entries());
      expect(registered).toBeDefined();
      using ours = await DnsAsker.open(node.listeners["dns"] ?? "");
      const records = await collected(ours, candidates(node.nodeId));
      const owners = [...new Set([...records].map((line) => line.split(". ")[0] ?? ""))];
      const sets = [...records].map((line) => line.split(" ")).map(([owner, , type]) => `${owner} ${type}`);
      const primary = { at: node.listeners["dns"] ?? "", ...key };
      expect(await transferred(primary)).toEqual(setsOf(sets));
      const probe = queryOf({ name: ZONE, type: TYPES.SOA });
      await using knot = await startZoneServer("Knot", ZONE, primary, probe);
      await using nsd = await startZoneServer("NSD", ZONE, primary, probe);
      using ofKnot = await DnsAsker.open(knot.at);
      using ofNsd = await DnsAsker.open(nsd.at);
      const wrong = new Map<string, string>();
      const kinds = { found: 0, empty: 0, absent: 0, refused: 0 };
      const differing = async (asked: Asked): Promise<void> => {
        const query = queryOf(asked);
        const [own, ...others] = await Promise.all([ours, ofKnot, ofNsd].map(async (asker) => told(await asker.ask(query))));
        kinds[kindOf(own ?? "")] += 1;
        if (others.some((other) => other !== own)) wrong.set(`${asked.name} TYPE${asked.type}`, [own, ...others].join("\n--\n"));
      };
      const all = questions(owners);
      for (let at = 0; at < all.length && wrong.size < 20; at += AT_ONCE) await Promise.all(all.slice(at, at + AT_ONCE).map(differing));
      expect(Object.fromEntries(wrong)).toEqual({});
      // Each kind of answer was compared often.
      expect(Math.min(...Object.values(kinds))).toBeGreaterThan(QUESTIONS / 100);
    });
  });
});
