// Makes elements for preact so that nothing is inherited from a polluted Object.prototype: no `dangerouslySetInnerHTML`,
// no handler, no address that our own code did not write.

import { h as create, Fragment, options, type ComponentChildren, type ComponentType, type JSX as Types, type VNode } from "preact";
import { bare } from "./bare";

export { Fragment };

export function h(
  type: string | ComponentType<any>,
  properties: Record<string, unknown> | null,
  ...children: ComponentChildren[]
): VNode<any> {
  const own = properties && bare(properties);
  if (own && typeof type === "string" && own.class !== undefined) {
    // `class` is no property of elements, and where a polluted prototype makes it look like one, none would be styled
    own.className = own.class;
    delete own.class;
  }
  return create(type as string, own, ...children);
}

export declare namespace h {
  namespace JSX {
    type Element = Types.Element;
    type ElementClass = Types.ElementClass;
    type ElementType = Types.ElementType;
    type IntrinsicElements = Types.IntrinsicElements;
    type IntrinsicAttributes = Types.IntrinsicAttributes;
    type ElementAttributesProperty = Types.ElementAttributesProperty;
    type ElementChildrenAttribute = Types.ElementChildrenAttribute;
    type LibraryManagedAttributes<Component, Props> = Types.LibraryManagedAttributes<Component, Props>;
  }
}

options.vnode = (vnode) => {
  // the properties of a text are the text
  if (vnode.type) vnode.props = bare(vnode.props);
};
