/** The zone that one server has, in the words of a zone file, so that others can have it: asked for question by question, as anybody may. */
import type { Answer, Packet, Question } from "dns-packet";
import { zoneLine } from "../test/fakes/zone-text.ts";
import { askDns, ZONE } from "./_dns.ts";
import type { Address } from "./_wire.ts";

function linesOf(records: readonly Answer[] | undefined): readonly string[] {
  return (records ?? []).flatMap((record) => zoneLine(record) ?? []).toSorted();
}

/** What two servers must agree on: the records of each section, in any order. */
function whatItSays({ answers, additionals, rcode }: Packet & { readonly rcode?: string }): string {
  return JSON.stringify([rcode ?? "", linesOf(answers), linesOf(additionals)]);
}

/** The zone as text: all that is answered to these questions, with the zone's own SOA and NS. */
export async function zoneText(at: Address, questions: readonly Question[]): Promise<string> {
  const lines = new Set<string>();
  const own: readonly Question[] = [
    { name: ZONE, type: "SOA" },
    { name: ZONE, type: "NS" },
  ];
  for (const question of [...own, ...questions]) {
    const { answers, additionals } = await askDns(at, question);
    for (const line of [...linesOf(answers), ...linesOf(additionals)]) lines.add(line);
  }
  return `${[...lines].join("\n")}\n`;
}

/** Throws where two servers answer one of the questions differently. Gives the bytes of the second's answers over the first's. */
export async function mustBeEqual(one: Address, other: Address, who: string, questions: readonly Question[]): Promise<number> {
  let [ours, theirs] = [0, 0];
  for (const question of questions) {
    const [a, b] = [await askDns(one, question), await askDns(other, question)];
    const [said, heard] = [whatItSays(a), whatItSays(b)];
    if (said !== heard) throw new Error(`${who} answers ${question.name} ${question.type} with ${heard}, not ${said}`);
    ours += a.bytes;
    theirs += b.bytes;
  }
  return theirs / ours;
}
