/** Versions that were in force and lost to one applied elsewhere at the same time: kept, so that nobody's change is gone unseen. */
import type { VersionFacts } from "./facts.ts";

/** Kept for people to look at; above it the oldest go. */
export const MAX_SUPERSEDED = 10;

export class Superseded {
  readonly #losers: VersionFacts[] = [];
  #conflict = "";

  /** Newest first. */
  get list(): readonly VersionFacts[] {
    return this.#losers.toReversed();
  }

  /** What a person should know of the newest version: that another lost to it; empty when none did. */
  get conflict(): string {
    return this.#conflict;
  }

  /** What the store has, at start. */
  restore(losers: readonly VersionFacts[], newest: VersionFacts | undefined): void {
    this.#losers.length = 0;
    this.#losers.push(...losers.toSorted((a, b) => a.number - b.number || a.hlc - b.hlc));
    this.#conflict = "";
    const last = this.#losers.findLast(({ number, checksum }) => number === newest?.number && checksum !== newest.checksum);
    if (last !== undefined && newest !== undefined) this.#conflict = conflictText(last, newest);
  }

  /** A new version is the newest, and it follows what was the newest here. */
  clear(): void {
    this.#conflict = "";
  }

  /** `loser` was the newest here, and `winner` does not follow it. */
  flag(loser: VersionFacts, winner: VersionFacts): void {
    this.#conflict = conflictText(loser, winner);
  }

  /** Keeps a loser; returns those that are no longer kept. */
  add(loser: VersionFacts): readonly VersionFacts[] {
    this.#losers.push(loser);
    return this.#losers.splice(0, Math.max(0, this.#losers.length - MAX_SUPERSEDED));
  }
}

function conflictText(loser: VersionFacts, winner: VersionFacts): string {
  const by = (facts: VersionFacts): string => `${facts.principal} at ${facts.nodeId === "" ? "an unknown node" : facts.nodeId}`;
  return `version ${loser.number} of ${by(loser)} was superseded by version ${winner.number} of ${by(winner)}, which does not follow it`;
}
