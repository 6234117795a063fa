/** Verbs that call DnsService: register, unregister, list and describe names, and explain an answer. */
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { EntryKind, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  DescribeNameResponseSchema,
  DnsService,
  ListNamesResponseSchema,
  RegisterNameResponseSchema,
  ResolveNameResponseSchema,
  UnregisterNameResponseSchema,
} from "../../../gen/waymark/dns/v1/dns_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { EXIT, UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { messageJson } from "../messages.ts";
import { noteMore, readPages } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";
import { ENTRY_COLUMNS, hiddenByColumns, splitKey } from "../texts.ts";

const { registerName, unregisterName, listNames, describeName, resolveName } = DnsService.method;
const MAX_NUMBER = 65_535;

/** Flags for a service, which cannot be combined with --alias-of. */
const ENDPOINT_FLAGS = ["namespace", "protocol", "port", "target", "scope", "tag", "capability", "metadata", "priority", "weight"] as const;
const MORE_FLAGS = ["ttl", "alias", "leaseTtl", "lease"] as const;

function aliasOf(name: string, entry: string, flags: Flags) {
  const given = [...ENDPOINT_FLAGS, ...MORE_FLAGS].filter((flag) => flags.text(flag) !== undefined || flags.list(flag).length > 0);
  if (given.length > 0)
    throw new UsageError("--alias-of cannot be combined with flags that describe an entry, because the entry already exists");
  const key = splitKey(entry);
  if (key === undefined) throw new UsageError(`invalid --alias-of ${entry}: expected namespace/name/instance`);
  return { registration: { case: "name" as const, value: { name, key } } };
}

function endpointOf(name: string, flags: Flags) {
  const port = flags.count("port", MAX_NUMBER);
  const namespace = flags.text("namespace");
  const missing = ["namespace", "port", "target"].filter((flag) => flags.text(flag) === undefined && flags.list(flag).length === 0);
  if (namespace === undefined || port === undefined || missing.length > 0)
    throw new UsageError(
      `missing ${counted(missing.length, "flag")}: ${missing.map((flag) => `--${flag}`).join(", ")} (or --alias-of, for an alias)`,
    );
  const [ttlMs, leaseTtlMs, leaseId] = [flags.durationMs("ttl"), flags.durationMs("leaseTtl"), flags.text("lease") ?? ""];
  const value = {
    name,
    namespace,
    protocol: flags.text("protocol") ?? "",
    port,
    targets: [...flags.list("target")],
    scope: flags.enum("scope", Scope),
    tags: [...flags.list("tag")],
    capabilities: [...flags.list("capability")],
    metadata: flags.pairs("metadata"),
    priority: numberOf(flags, "priority"),
    weight: numberOf(flags, "weight"),
    aliases: [...flags.list("alias")],
    ...(ttlMs !== undefined && { ttl: durationFromMs(ttlMs) }),
  };
  if (leaseTtlMs !== undefined && leaseId !== "") throw new UsageError("--lease-ttl and --lease cannot be combined");
  return {
    registration: { case: "endpoint" as const, value },
    leaseId,
    ...(leaseTtlMs === undefined ? { staticLease: leaseId === "" } : { leaseTtl: durationFromMs(leaseTtlMs) }),
  };
}

/** Parses a whole number. Defaults to 0. */
function numberOf(flags: Flags, name: "priority" | "weight"): number {
  const text = flags.text(name) ?? "0";
  const number = /^\d{1,5}$/.test(text) ? Number(text) : MAX_NUMBER + 1;
  if (number > MAX_NUMBER) throw new UsageError(`invalid --${name} ${text}: expected 0 to ${MAX_NUMBER}`);
  return number;
}

export const register: VerbFunction = async ({ args, flags, out, client }) => {
  const [name = ""] = args;
  const entry = flags.text("aliasOf");
  const answer = await client().call(registerName, entry === undefined ? endpointOf(name, flags) : aliasOf(name, entry, flags));
  out.document(messageJson(RegisterNameResponseSchema, answer), {
    columns: [
      { title: "NAME", text: (fqdn) => fqdn },
      { title: "LEASE", text: () => answer.leaseId },
      { title: "LEASE TTL", text: () => (answer.ttl === undefined ? "static" : `${durationMs(answer.ttl) / 1000}s`) },
    ],
    rows: answer.fqdns,
    whenEmpty: "registered, but without a DNS name; run waymark dns explain NAME to see why",
  });
  // Only the server knows the names' zone. An alias can include the zone.
  const isNamed = (alias: string) => answer.fqdns.some((fqdn) => `${fqdn}.`.startsWith(`${alias.toLowerCase().replace(/\.$/, "")}.`));
  for (const alias of flags.list("alias"))
    if (answer.fqdns.length > 0 && !isNamed(alias))
      out.note(`the alias ${alias} is not in DNS: another entry owns the name, or a policy forbids it in this namespace`);
};

export const unregister: VerbFunction = async ({ args, flags, out, client }) => {
  const [name = ""] = args;
  const namespace = flags.text("namespace") ?? "";
  const port = flags.count("port", MAX_NUMBER) ?? 0;
  const protocol = flags.text("protocol") ?? "";
  if (namespace === "" && (port !== 0 || protocol !== "")) throw new UsageError("--protocol and --port require --namespace");
  if (namespace !== "" && port === 0) throw new UsageError("--namespace requires --port");
  const answer = await client().call(unregisterName, { name, namespace, protocol, port });
  if (answer.removed > 0 || out.isMachine) {
    out.document(messageJson(UnregisterNameResponseSchema, answer), {
      columns: [{ title: "REMOVED", text: ({ removed }) => String(removed) }],
      rows: [answer],
    });
  }
  if (answer.removed > 0) return EXIT.done;
  out.error(
    namespace === ""
      ? "nothing was removed: no alias has this name; to remove a service, add --namespace and --port"
      : "nothing was removed: no service that dns register created has this name, protocol and port",
  );
  return EXIT.notFound;
};

export const list: VerbFunction = async ({ flags, out, client, viewer }) => {
  const namespacePrefix = flags.text("prefix") ?? "";
  const answer = await readPages(flags, ["names"], (page) => client().call(listNames, { namespacePrefix, ...viewer, ...page }));
  out.document(messageJson(ListNamesResponseSchema, answer), {
    columns: [
      { title: "NAMESPACE", text: ({ namespace }) => namespace },
      { title: "NAME", text: ({ name }) => name },
      { title: "KIND", text: ({ kind }) => enumWord(EntryKind, kind) },
      { title: "DNS", text: ({ fqdns, unreachableReason }) => fqdns[0] ?? `not reachable: ${unreachableReason}` },
      { title: "ALL NAMES", isWide: true, text: ({ fqdns }) => fqdns.join(", ") },
      { title: "ALIASES", isWide: true, text: ({ aliases }) => aliases.join(", ") },
    ],
    rows: answer.names,
  });
  noteMore(out, answer);
};

export const describe: VerbFunction = async ({ args, flags, out, client, viewer }) => {
  const [name = ""] = args;
  const namespace = flags.text("namespace") ?? "";
  const kind = flags.enum("kind", EntryKind);
  if (namespace === "" && kind !== EntryKind.UNSPECIFIED) throw new UsageError("--kind requires --namespace");
  const answer = await client().call(describeName, { name, namespace, kind, ...viewer });
  out.document(messageJson(DescribeNameResponseSchema, answer), { columns: ENTRY_COLUMNS, rows: answer.entries });
  const { fqdns = [], aliases = [], reachable = true, unreachableReason = "" } = answer.name ?? {};
  if (out.isMachine) return;
  if (fqdns.length > 0) out.note(`DNS names: ${fqdns.join(", ")}`);
  if (aliases.length > 0) out.note(`aliases: ${aliases.join(", ")}`);
  if (!reachable) out.note(`no DNS name: ${unreachableReason}`);
  if (answer.hasMore) out.note("there are more entries: run waymark discovery query to list all of them");
};

export const explain: VerbFunction = async ({ args, flags, out, client, viewer }) => {
  const [name = "", recordType = ""] = args;
  const clusterId = flags.text("cluster") ?? "";
  const { tenantId = "", asOperator = false } = viewer.viewer ?? {};
  const as = clusterId === "" && tenantId === "" && !asOperator ? {} : { viewer: { clusterId, tenantId, asOperator } };
  const [address, listener = ""] = [flags.text("source"), flags.text("listener")];
  if (address === undefined && listener !== "") throw new UsageError("--listener requires --source");
  const from = address === undefined ? {} : { source: { address, listener } };
  const answer = await client().call(resolveName, { name, recordType, explain: true, ...as, ...from });
  const { rcode, answers, authority, reasons, extendedErrors } = answer;
  const rows = [
    { topic: "answer", detail: [rcode, ...extendedErrors].join(", extended error ") },
    ...[...answers, ...authority].map((detail) => ({ topic: "record", detail })),
    ...reasons.map(({ topic, detail }) => ({ topic, detail })),
  ];
  const rules = Object.values(answer.hiddenBy).join(", ");
  out.document(messageJson(ResolveNameResponseSchema, answer), {
    columns: [
      { title: "TOPIC", text: ({ topic }) => topic },
      { title: "DETAIL", text: ({ detail }) => detail },
      ...hiddenByColumns<(typeof rows)[number]>(flags, ({ topic }) => (topic === "record" ? rules : "")),
    ],
    rows,
  });
};
