/** Verbs about DNS: asking the gateway like any DNS client, and converting labels. */
import { Resolver } from "node:dns/promises";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { plain } from "../output.ts";
import type { Verb } from "../table/verb.ts";

const TIMEOUT_MS = 2000;

export const resolveName: Verb = async ({ args, flags, out, client }) => {
  const [name = "", type = "A", ...more] = args;
  if (name.startsWith("@")) return (await import("./dns-ask.ts")).askServer(args, out);
  const { NODE_TYPES, checkType } = await import("./dns-ask.ts");
  checkType(type, NODE_TYPES);
  if (more.length > 0) throw new UsageError(`${more.join(" ")}: unknown; +tcp goes with @host:port`);
  if (!isDnsName(name)) {
    throw new UsageError(`${JSON.stringify(name)}: not a DNS name: labels of 1 to 63 characters with a dot between, at most 253 in all`);
  }
  const server = flags.text("dnsServer") ?? (await client().call(DiscoveryService.method.serverInfo, {})).listeners["dns"];
  if (server === undefined || server === "") throw new CommandError("the server runs no DNS gateway; name one with --dns-server host:port");
  const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: 2 });
  try {
    resolver.setServers([server]);
  } catch (error) {
    throw new UsageError(`--dns-server ${server}: not an address with a port, such as 127.0.0.1:17453`, { cause: error });
  }
  const answers = await ask(resolver, { name, type, server });
  const json = { name, type, server, answers };
  out.document(json, {
    columns: [
      { title: "NAME", stored: () => name },
      { title: "TYPE", stored: () => type },
      { title: "ANSWER", stored: (answer) => answer },
    ],
    rows: answers,
  });
  return EXIT.done;
};

/** Whether the name and its labels have the lengths of a DNS name. A dot at the end does not count. */
function isDnsName(name: string): boolean {
  const labels = name.replace(/\.$/, "");
  return name === "." || (labels.length <= 253 && labels.split(".").every((label) => label.length > 0 && label.length <= 63));
}

interface Question {
  readonly name: string;
  readonly type: string;
  readonly server: string;
}

async function ask(resolver: Resolver, { name, type, server }: Question): Promise<readonly string[]> {
  try {
    const found: unknown = await resolver.resolve(name, type);
    return (Array.isArray(found) ? found : [found]).map(answerText);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    // The lengths were checked before, so c-ares refuses a character.
    if (code === "EBADNAME") {
      throw new UsageError(`${JSON.stringify(name)}: not a name to ask DNS for: it may have letters, digits, - _ * / and dots`, {
        cause: error,
      });
    }
    if (code === "ENOTFOUND") throw new CommandError(`${name}: no such name (NXDOMAIN)`, EXIT.notFound, error);
    if (code === "ENODATA") throw new CommandError(`${name}: the name exists, but has no ${type} record`, EXIT.notFound, error);
    if (code === "ETIMEOUT" || code === "ECONNREFUSED")
      throw new CommandError(`no answer from the DNS gateway at ${server}`, EXIT.unreachable, error);
    if (code === "EREFUSED") throw new CommandError(`${name}: refused; it is outside the zones of the gateway`, EXIT.failed, error);
    if (code === "ESERVFAIL") {
      const advice = "its node may not be ready: waymark discovery lag shows what it waits for";
      throw new CommandError(`${name}: the DNS gateway at ${server} cannot answer (SERVFAIL)\n${advice}`, EXIT.failed, error);
    }
    throw new CommandError(`${name} ${type}: ${error instanceof Error ? error.message : String(error)}`, EXIT.failed, error);
  }
}

/** The fields of a record in the order of a zone file. An answer may have other fields too. */
const FIELDS = [
  ["priority", "weight", "port", "name"],
  ["nsname", "hostmaster", "serial", "refresh", "retry", "expire", "minttl"],
] as const;

/** One record as in a zone file: an SRV is `priority weight port name`. */
function answerText(record: unknown): string {
  if (typeof record === "string") return record;
  if (Array.isArray(record)) return record.map((part) => JSON.stringify(part)).join(" ");
  if (typeof record !== "object" || record === null) return String(record);
  const fields = new Map<string, unknown>(Object.entries(record));
  const names = FIELDS.find((each) => each.every((field) => fields.has(field))) ?? [...fields.keys()];
  return names.map((field) => plain(String(fields.get(field)))).join(" ");
}

export const encode: Verb = async ({ environment, args, out }) => {
  const [name = ""] = args;
  const label = await environment.labels.encode(name);
  if (label === undefined) {
    throw new CommandError(
      `${name}: no name of an entry or a node, which are of A-Z a-z 0-9 . _ : / @ + - and have at most 253 characters in DNS`,
    );
  }
  if (out.isMachine) out.json({ name, label });
  else out.raw(`${label}\n`);
};

export const decode: Verb = async ({ environment, args, out }) => {
  const [label = ""] = args;
  const name = await environment.labels.decode(label);
  if (name === undefined)
    throw new CommandError(
      `${label}: not the label of a name; a label is a-z 0-9 -, or b32- and base32, with labels of b32x- before it if it is long`,
    );
  if (out.isMachine) out.json({ name, label });
  else out.raw(`${name}\n`);
};
