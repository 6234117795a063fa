/** Verbs about DNS: asking the gateway like any DNS client, and converting labels. */
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import type { VerbFunction } from "../table/verb.ts";

export const resolveName: VerbFunction = async ({ args, flags, out, client }) => {
  const { askOf, askServer, dataOf, placeOf, questionOf } = await import("./dns-ask.ts");
  if (args[0]?.startsWith("@") === true) return askServer(args, out);
  const { name, type, isTcp } = questionOf(args);
  checkName(name);
  const server = flags.text("dnsServer") ?? (await client().call(DiscoveryService.method.serverInfo, {})).listeners["dns"];
  if (server === undefined || server === "") throw new CommandError("the server runs no DNS gateway; name one with --dns-server host:port");
  const place = placeOf(server);
  if (place === undefined) throw new UsageError(`--dns-server ${server}: not an address with a port, such as 127.0.0.1:17453`);
  const reply = await askOf({ ...place, name, type, isTcp, server });
  const answers = dataOf(reply, type);
  const { rcode } = reply;
  if (rcode !== "NOERROR" || answers.length === 0) throw failed({ name, type, server, rcode });
  out.document(
    { name, type, server, answers },
    {
      columns: [
        { title: "NAME", stored: () => name },
        { title: "TYPE", stored: () => type },
        { title: "ANSWER", stored: (answer) => answer },
      ],
      rows: answers,
    },
  );
  return EXIT.done;
};

function checkName(name: string): void {
  const shown = JSON.stringify(name);
  if (!isDnsName(name))
    throw new UsageError(`${shown}: not a DNS name: labels of 1 to 63 characters with a dot between, at most 253 in all`);
  if (!/^[\w*/.-]+$/.test(name)) throw new UsageError(`${shown}: not a name to ask DNS for: it may have letters, digits, - _ * / and dots`);
}

/** Whether the name and its labels have the lengths of a DNS name. A dot at the end does not count. */
function isDnsName(name: string): boolean {
  const labels = name.replace(/\.$/, "");
  return name === "." || (labels.length <= 253 && labels.split(".").every((label) => label.length > 0 && label.length <= 63));
}

/** An answer without records of the type, in words. */
function failed({ name, type, server, rcode }: Record<"name" | "rcode" | "server" | "type", string>): CommandError {
  switch (rcode) {
    case "NOERROR":
      return new CommandError(`${name}: the name exists, but has no ${type} record`, EXIT.notFound);
    case "NXDOMAIN":
      return new CommandError(`${name}: no such name (NXDOMAIN)`, EXIT.notFound);
    case "REFUSED":
      return new CommandError(`${name}: refused; it is outside the zones of the gateway, or nobody at this address may ask`, EXIT.failed);
    case "SERVFAIL": {
      const advice = "its node may not be ready: waymark discovery lag shows what it waits for";
      return new CommandError(`${name}: the DNS gateway at ${server} cannot answer (SERVFAIL)\n${advice}`, EXIT.failed);
    }
    default:
      return new CommandError(`${name} ${type}: ${rcode}`, EXIT.failed);
  }
}

export const encode: VerbFunction = async ({ environment, args, out }) => {
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

export const decode: VerbFunction = async ({ environment, args, out }) => {
  const [label = ""] = args;
  const name = await environment.labels.decode(label);
  if (name === undefined)
    throw new CommandError(
      `${label}: not the label of a name; a label is a-z 0-9 -, or b32- and base32, with labels of b32x- before it if it is long`,
    );
  if (out.isMachine) out.json({ name, label });
  else out.raw(`${name}\n`);
};
