/** Export and import rules of borders in worlds of chance. They change, and they say what each region shows in the end (P18). */
import type { Rng } from "../../../src/lib/rng.ts";
import type { Layout, Rules } from "./world.ts";

/** Nothing stands for everything, as in the settings. The last one lets nothing through that these worlds have. */
const CHOICES: readonly (readonly string[])[] = [[], ["svc"], ["inner"], ["none"]];
const ALL: readonly string[] = [];

/** What the clusters of a region have now for all clusters of another region, or for one cluster. */
export interface RuleChange {
  readonly place: string;
  readonly to: readonly string[];
  readonly rules: Rules;
}

export class BorderRules {
  readonly #layout: Layout;
  readonly #areNeighbours: (one: string, other: string) => boolean;
  /** By region and the region that is told, without those that export everything. */
  readonly #exports = new Map<string, readonly string[]>();
  /** By region and the cluster of another one, without those of which everything is let in. */
  readonly #imports = new Map<string, readonly string[]>();

  constructor(layout: Layout, areNeighbours: (one: string, other: string) => boolean, rng: Rng) {
    this.#layout = layout;
    this.#areNeighbours = areNeighbours;
    for (const place of this.#places) {
      if (rng.int(4) === 0) for (const other of this.#places) this.#exports.set(`${place} ${other}`, ["svc"]);
      for (const cluster of this.#othersThan(place)) if (rng.int(5) === 0) this.#imports.set(`${place} ${cluster}`, ["svc"]);
    }
  }

  /** Of the border of one cluster with another one. */
  of(from: string, to: string): Rules {
    const place = this.#regionOf(from);
    return { exports: this.#exportsTo(place, this.#regionOf(to)), imports: this.#importsOf(place, to) };
  }

  /** A rule becomes narrower, wider or another one. */
  change(rng: Rng): RuleChange {
    const pairs = this.#places.flatMap((place) =>
      this.#places.filter((other) => this.#isBeside(place, other)).map((other) => [place, other] as const),
    );
    const [place, other] = pairs[rng.int(pairs.length)] ?? ["", ""];
    const patterns = CHOICES[rng.int(CHOICES.length)] ?? ALL;
    const clusters = this.#clustersOf(other);
    if (rng.int(3) > 0) {
      this.#exports.set(`${place} ${other}`, patterns);
      return { place, to: clusters, rules: { exports: patterns } };
    }
    const to = clusters[rng.int(clusters.length)] ?? "";
    this.#imports.set(`${place} ${to}`, patterns);
    return { place, to: [to], rules: { imports: patterns } };
  }

  /** Whether a region is told what a cluster says of the namespace, by whichever way, and lets it in. */
  lets(cluster: string, namespace: string, place: string): boolean {
    return this.#isTold(this.#regionOf(cluster), namespace, place) && this.#isImported(cluster, namespace, place);
  }

  #isTold(source: string, namespace: string, place: string): boolean {
    const told = new Set([source]);
    // Each one that is told tells others, and a set yields what is added meanwhile.
    for (const from of told)
      for (const to of this.#places) if (this.#isBeside(from, to) && covers(this.#exportsTo(from, to), namespace)) told.add(to);
    return told.has(place);
  }

  /** The border with a cluster decides. Of one without a border it is enough that one border lets it in. */
  #isImported(cluster: string, namespace: string, place: string): boolean {
    const source = this.#regionOf(cluster);
    if (place === source) return true;
    const borders = this.#isBeside(place, source)
      ? [cluster]
      : this.#othersThan(place).filter((each) => this.#isBeside(place, this.#regionOf(each)));
    return borders.some((each) => covers(this.#importsOf(place, each), namespace));
  }

  #exportsTo(place: string, other: string): readonly string[] {
    return this.#exports.get(`${place} ${other}`) ?? ALL;
  }

  #importsOf(place: string, cluster: string): readonly string[] {
    return this.#imports.get(`${place} ${cluster}`) ?? ALL;
  }

  #isBeside(one: string, other: string): boolean {
    return one !== other && this.#areNeighbours(one, other);
  }

  get #places(): readonly string[] {
    return Object.keys(this.#layout);
  }

  #clustersOf(place: string): readonly string[] {
    return Object.keys(this.#layout[place] ?? {});
  }

  #othersThan(place: string): readonly string[] {
    return this.#places.flatMap((other) => (other === place ? [] : this.#clustersOf(other)));
  }

  #regionOf(cluster: string): string {
    return this.#places.find((place) => this.#clustersOf(place).includes(cluster)) ?? "";
  }
}

function covers(patterns: readonly string[], namespace: string): boolean {
  return patterns.length === 0 || patterns.includes(namespace);
}
