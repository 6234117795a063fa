/** Verbs that query the DNS gateway and convert labels. */
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import type { VerbFunction } from "../table/verb.ts";

export const resolveName: VerbFunction = async ({ args, flags, out, client }) => {
  const { askOf, askServer, dataOf, placeOf, questionOf } = await import("./dns-ask.ts");
  if (args[0]?.startsWith("@") === true) return askServer(args, out);
  const { name, type, isTcp } = questionOf(args);
  checkName(name);
  const server = flags.text("dnsServer") ?? (await client().call(DiscoveryService.method.serverInfo, {})).listeners["dns"];
  if (server === undefined || server === "")
    throw new CommandError("the server does not run a DNS gateway: select one with --dns-server host:port");
  const place = placeOf(server);
  if (place === undefined) throw new UsageError(`invalid --dns-server ${server}: expected an address such as 127.0.0.1:17453`);
  const reply = await askOf({ ...place, name, type, isTcp, server });
  const answers = dataOf(reply, type);
  const { rcode } = reply;
  if (rcode !== "NOERROR" || answers.length === 0) throw failed({ name, type, server, rcode });
  out.document(
    { name, type, server, answers },
    {
      columns: [
        { title: "NAME", text: () => name },
        { title: "TYPE", text: () => type },
        { title: "ANSWER", text: (answer) => answer },
      ],
      rows: answers,
    },
  );
  return EXIT.done;
};

function checkName(name: string): void {
  const shown = JSON.stringify(name);
  if (!isDnsName(name))
    throw new UsageError(
      `invalid DNS name ${shown}: expected labels of 1 to 63 characters separated by dots, at most 253 characters in total`,
    );
  if (!/^[\w*/.-]+$/.test(name))
    throw new UsageError(`invalid DNS name ${shown}: allowed characters are letters, digits, - _ * / and dots`);
}

/** Whether the name and its labels have valid lengths for DNS. A trailing dot is ignored. */
function isDnsName(name: string): boolean {
  const labels = name.replace(/\.$/, "");
  return name === "." || (labels.length <= 253 && labels.split(".").every((label) => label.length > 0 && label.length <= 63));
}

/** Returns the error for an answer without records of the type. */
function failed({ name, type, server, rcode }: Record<"name" | "rcode" | "server" | "type", string>): CommandError {
  switch (rcode) {
    case "NOERROR":
      return new CommandError(`${name} exists but has no ${type} record`, EXIT.notFound);
    case "NXDOMAIN":
      return new CommandError(`${name} does not exist (NXDOMAIN)`, EXIT.notFound);
    case "REFUSED":
      return new CommandError(
        `query for ${name} was refused: the name is outside the zones of the gateway, or this client address may not query it`,
        EXIT.failed,
      );
    case "SERVFAIL": {
      const advice = "the node may not be ready: run waymark discovery lag to see the reason";
      return new CommandError(`query for ${name} failed: the DNS gateway at ${server} cannot answer (SERVFAIL)\n${advice}`, EXIT.failed);
    }
    default:
      return new CommandError(`query for ${name} ${type} failed: ${rcode}`, EXIT.failed);
  }
}

export const encode: VerbFunction = async ({ environment, args, out }) => {
  const [name = ""] = args;
  const label = await environment.labels.encode(name);
  if (label === undefined) {
    throw new CommandError(`cannot encode ${name}: expected A-Z a-z 0-9 . _ : / @ + -, at most 253 characters in DNS`);
  }
  if (out.isMachine) out.json({ name, label });
  else out.raw(`${label}\n`);
};

export const decode: VerbFunction = async ({ environment, args, out }) => {
  const [label = ""] = args;
  const name = await environment.labels.decode(label);
  if (name === undefined)
    throw new CommandError(
      `cannot decode ${label}: expected a label of a-z 0-9 -, or b32- followed by base32, preceded by b32x- labels if the name is long`,
    );
  if (out.isMachine) out.json({ name, label });
  else out.raw(`${name}\n`);
};
