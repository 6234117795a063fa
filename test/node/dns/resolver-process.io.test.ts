/** What the DNS of a process knows beside its copy, where the main thread is a resolver. */
import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { Slab } from "../../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { UnknownName } from "../../../src/dns/subject/elsewhere.ts";
import { askingElsewheres } from "../../../src/node/dns/resolver-process.io.ts";
import { NameRequests } from "../../../src/services/resolving/name-requests.ts";
import type { ProcessQuestion } from "../../../src/services/resolving/process-exchange.ts";
import { ReceivedNames } from "../../../src/services/resolving/received-names.ts";
import { SETTINGS } from "../../fakes/options.ts";

const FACTS = { prefixes: ["svc.market"], doubted: [], isCutOff: false, letGoCount: 0 };
const EVERYBODY = { sees: () => true, counts: () => true };

test("what lies below a name is asked again once a namespace was let go, because some of it was followed before", async () => {
  const questions: ProcessQuestion[] = [];
  const now = () => ({ monoMs: 1000, wallMs: 1000 });
  const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
  const names = new ReceivedNames({ slab: new Slab(), stamper, maxBytes: 10_000 });
  const asked = new NameRequests({ names, ask: () => {}, now });
  asked.heard(FACTS);
  const { node } = SETTINGS;
  const elsewhere = askingElsewheres({
    asked,
    reads: { policyEdition: 0 },
    settings: SETTINGS,
    ask: (question, told) => {
      questions.push(question);
      queueMicrotask(() => told({ carriers: { entries: [], isMore: true } }));
    },
    now,
  }).of({ cluster: node.clusterId, tenant: "" });
  const said = async () => {
    try {
      return elsewhere.hasNameUnder("shop", "waymark", EVERYBODY);
    } catch (error) {
      if (!(error instanceof UnknownName)) throw error;
      await error.arrival;
      return "asked";
    }
  };
  expect([await said(), await said()]).toEqual(["asked", true]);
  asked.heard({ ...FACTS, letGoCount: 1 });
  expect([await said(), await said(), questions.map(({ kind }) => kind)]).toEqual(["asked", true, ["carriers", "carriers"]]);
});
