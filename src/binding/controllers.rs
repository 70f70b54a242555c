//! What is known of Ingress and Gateway controllers, by the name that their class gives: never by the class's own name.

use serde_json::Value;

/// How a controller is told to send plain HTTP to HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// By this annotation on the Ingress, `"true"` or `"false"`.
    Annotation(&'static str),
    /// Otherwise; how.
    Elsewhere(&'static str),
}

/// Where a controller's pods are, and at which port they terminate TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// A label selector.
    pub selector: String,
    /// The container's port.
    pub port: u16,
}

/// A controller we know.
struct Controller {
    /// `IngressClass.spec.controller`, or its beginning where it ends with `/`.
    name: &'static str,
    redirect: Redirect,
    /// Label selector and TLS port of its pods; none if TLS ends outside the cluster.
    pods: Option<(&'static str, u16)>,
}

const NGINX_REDIRECT: Redirect = Redirect::Annotation("nginx.ingress.kubernetes.io/ssl-redirect");

const CONTROLLERS: [Controller; 7] = [
    Controller {
        name: INGRESS_NGINX,
        redirect: NGINX_REDIRECT,
        pods: Some((
            "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller",
            443,
        )),
    },
    Controller {
        name: APPLICATION_ROUTING,
        redirect: NGINX_REDIRECT,
        pods: Some((
            "app=nginx,app.kubernetes.io/managed-by=aks-app-routing-operator",
            443,
        )),
    },
    Controller {
        name: "azure/application-gateway",
        redirect: Redirect::Annotation("appgw.ingress.kubernetes.io/ssl-redirect"),
        pods: None,
    },
    Controller {
        name: APPLICATION_GATEWAY_FOR_CONTAINERS,
        redirect: Redirect::Elsewhere(
            "Application Gateway for Containers redirects by  requestRedirect  of an IngressExtension",
        ),
        pods: None,
    },
    Controller {
        name: "traefik.io/ingress-controller",
        redirect: Redirect::Elsewhere(
            "Traefik redirects at its entry point (ports.web.http.redirections of its chart), or by a Middleware named \
             in the annotation traefik.ingress.kubernetes.io/router.middlewares",
        ),
        pods: Some(("app.kubernetes.io/name=traefik", 8443)),
    },
    Controller {
        name: "haproxy.org/ingress-controller/",
        redirect: Redirect::Annotation("haproxy.org/ssl-redirect"),
        pods: Some(("app.kubernetes.io/name=kubernetes-ingress", 8443)),
    },
    Controller {
        name: "haproxy-ingress.github.io/controller",
        redirect: Redirect::Annotation("haproxy-ingress.github.io/ssl-redirect"),
        pods: Some(("app.kubernetes.io/name=haproxy-ingress", 443)),
    },
];

const INGRESS_NGINX: &str = "k8s.io/ingress-nginx";
const APPLICATION_ROUTING: &str = "webapprouting.kubernetes.azure.com/nginx";
/// Also `GatewayClass.spec.controllerName`.
const APPLICATION_GATEWAY_FOR_CONTAINERS: &str = "alb.networking.azure.io/alb-controller";

fn known(controller: &str) -> Option<&'static Controller> {
    CONTROLLERS.iter().find(|known| {
        known.name == controller
            || known.name.trim_end_matches('/') == controller
            || (known.name.ends_with('/') && controller.starts_with(known.name))
    })
}

/// How this controller is told to redirect; nothing if we do not know it.
pub fn redirect(controller: &str) -> Option<Redirect> {
    known(controller).map(|known| known.redirect)
}

/// Every annotation that means the redirect to some controller.
pub fn redirect_annotations() -> impl Iterator<Item = &'static str> {
    CONTROLLERS.iter().filter_map(|known| match known.redirect {
        Redirect::Annotation(name) => Some(name),
        Redirect::Elsewhere(_) => None,
    })
}

/// The pods of this controller, if TLS ends in them.
pub fn pods(controller: &str) -> Option<Pods> {
    let (selector, port) = known(controller)?.pods?;
    Some(Pods {
        namespace: None,
        selector: selector.to_owned(),
        port,
    })
}

/// The pods of a Gateway, by the label that every implementation gives to what a Gateway brings along.
pub fn gateway_pods(namespace: &str, gateway: &str) -> Pods {
    Pods {
        namespace: Some(namespace.to_owned()),
        selector: format!("gateway.networking.k8s.io/gateway-name={gateway}"),
        port: 443,
    }
}

/// What a practitioner who binds to this controller anew should know about its future: what, and the way out.
pub fn advice(controller: &str) -> Option<(&'static str, &'static str)> {
    const WAY_OUT: &str = "Move to Gateway API without downtime: add  gateway = { class_name = \"approuting-istio\", … }  \
                           beside  ingress , switch DNS to  addresses.gateway , then remove  ingress  (docs/guides/gateway.md).";
    match controller {
        INGRESS_NGINX => Some((
            "ingress-nginx is retired: its maintenance ended in March 2026, and its last release is v1.15.1",
            WAY_OUT,
        )),
        APPLICATION_ROUTING => Some((
            "Application routing's NGINX gets critical fixes only, and these until November 2026",
            WAY_OUT,
        )),
        APPLICATION_GATEWAY_FOR_CONTAINERS => Some((
            "Microsoft does not support certificates from the Secrets Store CSI driver with Application Gateway for \
             Containers. To the controller it is a Secret like any other",
            "Try it before production, or use another class.",
        )),
        _ => None,
    }
}

/// The last day on which this controller was maintained, or is to be; nothing if no end is known.
pub fn retired_on(controller: &str) -> Option<&'static str> {
    match controller {
        INGRESS_NGINX => Some("2026-03-31"),
        APPLICATION_ROUTING => Some("2026-11-30"),
        _ => None,
    }
}

/// Whether Ingresses that name no class get this one.
pub fn is_default_class(class: &Value) -> bool {
    class["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] == "true"
}

/// Whether a certificate's subject is that of a controller's own, shown where it has no other.
pub fn is_fake(subject: &str) -> bool {
    [
        "Kubernetes Ingress Controller Fake Certificate",
        "TRAEFIK DEFAULT CERT",
    ]
    .iter()
    .any(|fake| subject.contains(fake))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_known_by_their_own_name() {
        let rows = [
            (
                "k8s.io/ingress-nginx",
                Some("nginx.ingress.kubernetes.io/ssl-redirect"),
            ),
            (
                "webapprouting.kubernetes.azure.com/nginx",
                Some("nginx.ingress.kubernetes.io/ssl-redirect"),
            ),
            (
                "azure/application-gateway",
                Some("appgw.ingress.kubernetes.io/ssl-redirect"),
            ),
            (
                "haproxy.org/ingress-controller/haproxy",
                Some("haproxy.org/ssl-redirect"),
            ),
            ("haproxy.org/ingress-controller", Some("haproxy.org/ssl-redirect")),
            ("traefik.io/ingress-controller", None),
            ("alb.networking.azure.io/alb-controller", None),
        ];
        for (controller, annotation) in rows {
            let found = match redirect(controller).unwrap() {
                Redirect::Annotation(name) => Some(name),
                Redirect::Elsewhere(_) => None,
            };
            assert_eq!(found, annotation, "{controller}");
        }
        for unknown in ["nginx", "example.com/edge", "haproxy.organic/x"] {
            assert_eq!(redirect(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn tls_that_ends_outside_the_cluster_has_no_pods() {
        assert_eq!(pods("azure/application-gateway"), None);
        assert_eq!(pods("traefik.io/ingress-controller").unwrap().port, 8443);
    }
}
