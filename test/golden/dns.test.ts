/** The conversations in test/golden/dns, through the responder: query bytes to response bytes. */
import { join } from "node:path";
import { newFunctionDetail } from "../../gen/waymark/catalog/v1/entry_codec.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { EntryView } from "../../src/catalog/entry/view.ts";
import { HEALTH, KIND } from "../../src/catalog/record/record.ts";
import { DnsResponder } from "../../src/dns/server/responder.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { Rng } from "../../src/lib/rng.ts";
import { type EntrySpec, entryView, FakeDnsCatalog, gatewayView, nodeView, TEST_DNS_SETTINGS } from "../fakes/dns-catalog.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { SETTINGS } from "../fakes/options.ts";
import { runGoldens, type Scenario } from "./run.ts";

runGoldens(join(import.meta.dirname, "dns"), openWorld);

function openWorld(): Scenario {
  const catalog = new FakeDnsCatalog();
  const rng = new Rng("golden");
  let settings = TEST_DNS_SETTINGS;
  const serialOf = () => catalog.revision;
  let responder = new DnsResponder({ settings, planBytes: SETTINGS.dns.planBytes, random: () => rng.next(), serialOf });
  const change = (changes: Partial<typeof settings>): void => {
    settings = { ...settings, ...changes };
    responder = new DnsResponder({ settings, planBytes: SETTINGS.dns.planBytes, random: () => rng.next(), serialOf });
  };
  return (command) => {
    const [verb = "", ...words] = command.split(/\s+/);
    switch (verb) {
      case "zones":
        change({ zones: words });
        return "";
      case "reverse_zones":
        change({ reverseZones: words });
        return "";
      case "allow_external_names":
        change({ allowExternalNames: true });
        return "";
      case "entry":
        catalog.add(parseEntry(words));
        return "";
      case "node":
        catalog.add(nodeView(words[0] ?? "", words.slice(1)));
        return "";
      case "gateway":
        catalog.add(gatewayOf(words));
        return "";
      case "clear":
        catalog.clear();
        return "";
      case "dig":
        return dig(responder, catalog, words);
      default:
        throw new Error(`no such command: ${command}`);
    }
  };
}

/** `dig TYPE NAME [+tcp] [+noedns] [+bufsize=N]` */
function dig(responder: DnsResponder, catalog: FakeDnsCatalog, words: readonly string[]): string {
  const [type = "", name = "", ...flags] = words;
  const bufsize = flags.includes("+noedns") ? undefined : Number(valueOf(flags, "+bufsize") ?? 1232);
  const query = queryBytes({ type, name: name.replace(/\.$/, ""), bufsize });
  const reply = responder.respond(query, flags.includes("+tcp") ? "tcp" : "udp", () => onlyView(catalog));
  return reply === undefined ? "no answer" : responseText(reply.bytes);
}

/** `<kind> <namespace>/<name> key=value…`; `target=host:port[/protocol]`, `alias=` and `metadata=key:value` may be repeated. */
function parseEntry(words: readonly string[]): EntryView {
  const [kind = "", place = "", ...rest] = words;
  const slash = place.indexOf("/");
  const priority = Number(valueOf(rest, "priority") ?? 0);
  const weight = Number(valueOf(rest, "weight") ?? 1);
  const targets = valuesOf(rest, "target").map((text) => {
    const [, host = "", port = "0", protocol = "tcp"] = /^\[?([^\]]*?)\]?:(\d+)(?:\/(\w+))?$/.exec(text) ?? [];
    return { host, port: Number(port), protocol, priority, weight };
  });
  const ttl = valueOf(rest, "ttl");
  const spec: EntrySpec = {
    kind: KIND[kind.toUpperCase() as keyof typeof KIND],
    namespace: place.slice(0, slash),
    name: place.slice(slash + 1),
    instanceId: valueOf(rest, "instance") ?? "i1",
    targets,
    ttlMs: ttl === undefined ? undefined : Number.parseFloat(ttl) * 1000,
    health: HEALTH[(valueOf(rest, "health") ?? "healthy").toUpperCase() as keyof typeof HEALTH],
    scope: SCOPE[(valueOf(rest, "scope") ?? "zone").toUpperCase() as keyof typeof SCOPE],
    aliases: valuesOf(rest, "alias"),
    nodeId: valueOf(rest, "node") ?? "n1",
    tags: valueOf(rest, "tags")?.split(",") ?? [],
    capabilities: valueOf(rest, "capabilities")?.split(",") ?? [],
    metadata: Object.fromEntries(valuesOf(rest, "metadata").map((pair) => [pair.replace(/:.*/, ""), pair.replace(/^[^:]*:/, "")] as const)),
    detail: { case: "function", value: { ...newFunctionDetail(), specDigest: valueOf(rest, "spec_digest") ?? "" } },
  };
  return entryView(spec);
}

/** `<node> [host=] [grpc=] [zones=a,b] [health=]` */
function gatewayOf([nodeId = "", ...words]: readonly string[]): EntryView {
  const grpcHost = valueOf(words, "grpc");
  return gatewayView(nodeId, {
    host: valueOf(words, "host") ?? "10.9.0.1",
    ...(grpcHost !== undefined && { grpcHost }),
    zones: (valueOf(words, "zones") ?? "waymark").replaceAll(",", " "),
    health: HEALTH[(valueOf(words, "health") ?? "healthy").toUpperCase() as keyof typeof HEALTH],
  });
}

function valuesOf(words: readonly string[], key: string): string[] {
  return words.filter((word) => word.startsWith(`${key}=`)).map((word) => word.slice(key.length + 1));
}

function valueOf(words: readonly string[], key: string): string | undefined {
  return valuesOf(words, key)[0];
}
