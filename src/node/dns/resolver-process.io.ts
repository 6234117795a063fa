/** What the DNS of a process reads beside its copy, where its main thread is a resolver: it asks that for what is not followed. */
import type { EntryView } from "../../catalog/entry/view.ts";
import type { Settings } from "../../config/settings.ts";
import type { Reads } from "../../discovery/reads.ts";
import type { Elsewheres } from "../../dns/subject/elsewhere.ts";
import { FetchingElsewhere } from "../../dns/views/fetching-elsewhere.ts";
import { classesOf, viewersOf } from "../../dns/views/views.ts";
import type { Time } from "../../lib/machine.ts";
import { AnswerCounts } from "../../resolver/upkeep/statistics.ts";
import { carriersOfSent, keptCarriersFor, openClasses } from "../../services/resolving/elsewhere.ts";
import type { NameRequests, NameRequestsParts } from "../../services/resolving/name-requests.ts";
import { nameServerView } from "../../services/resolving/own-entry.ts";
import { advertisedHost } from "../fabric/address.io.ts";
import { resolverOptionsOf } from "../resolver/options.ts";

interface DnsProcessParts {
  readonly asked: NameRequests;
  readonly reads: Pick<Reads, "policyEdition">;
  readonly settings: Settings;
  readonly ask: NameRequestsParts["ask"];
  readonly now: () => Time;
}

export function askingElsewheres({ asked, reads, settings, ask, now }: DnsProcessParts): Elsewheres {
  const resolver = resolverOptionsOf(settings, { name: "", random: () => 0 });
  const upstreams = {
    get isCutOff() {
      return asked.facts.isCutOff;
    },
    get cutOffMonoMs() {
      return asked.cutOffMonoMs;
    },
  };
  const machine = {
    counts: new AnswerCounts(),
    fetchedLeftMs: asked.leftMs.bind(asked),
    fetchedMark: asked.markOf.bind(asked),
    fetchedAnswer: asked.fetchedAnswer.bind(asked),
    isComplete: asked.isComplete.bind(asked),
    upstreams,
  };
  return openClasses(classesOf(viewersOf(settings.dns, settings.node)).callers, (viewer, maxBytes) => {
    const { cluster, tenant } = viewer;
    const carriers = keptCarriersFor(resolver, maxBytes);
    return new FetchingElsewhere({
      machine,
      // The names of doubted namespaces are asked for, and how long they may be kept is told.
      isHeld: () => false,
      ask: (name, how, told) => asked.ask(name, how, told),
      carriers,
      askCarriers: (name, zone, told) =>
        ask({ kind: "carriers", name, zone, viewer: { cluster, tenant } }, (answer) =>
          told(answer?.carriers && carriersOfSent(name, zone, answer.carriers, carriers.answerBytes)),
        ),
      inputCount: () => asked.inputCount,
      judgedEdition: () => reads.policyEdition + asked.facts.letGoCount,
      now,
    });
  });
}

/** What stands for the resolver under `<its id>.node`. */
export function resolverSelf(settings: Settings, { nodeId, version }: { readonly nodeId: string; readonly version: string }): EntryView {
  return nameServerView({ nodeId, zone: settings.node.zone, version }, advertisedHost(settings, settings.dns.host ?? settings.listen.host));
}
