//! Provider-defined functions. Their errors are not diagnostics but a message of their own.

use std::collections::BTreeMap;

use super::answer::{Call, Kind};
use super::*;
use crate::framework::{Type, function};
use crate::tfplugin6::dynamic_value::Refinements;

/// All functions of a provider, as the host calls them.
pub(super) fn all(provider: &dyn framework::Provider) -> BTreeMap<String, Function> {
    provider
        .functions()
        .iter()
        .map(|it| (it.name().to_owned(), encode::function(it.signature())))
        .collect()
}

pub(super) async fn get_functions(
    server: &Server,
    _: get_functions::Request,
) -> Reply<get_functions::Response> {
    let provider = server.provider();
    server
        .answer(Call::plain("GetFunctions"), async move {
            Ok(get_functions::Response {
                functions: all(provider.as_ref()),
                diagnostics: Vec::new(),
            })
        })
        .await
}

pub(super) async fn call_function(
    server: &Server,
    request: call_function::Request,
) -> Reply<call_function::Response> {
    let (provider, results) = (server.provider(), Arc::clone(&server.results));
    let call = Call::new("CallFunction", Kind::Function, &request.name);
    let answered = server
        .answer(call, async move {
            let result = call_it(provider.as_ref(), &results, &request);
            Ok(Called(
                match result {
                    Ok(result) => call_function::Response { result, error: None },
                    Err(error) => call_function::Response {
                        result: None,
                        error: Some(FunctionError {
                            text: error.text,
                            function_argument: error
                                .argument
                                .and_then(|position| i64::try_from(position).ok()),
                        }),
                    },
                },
                Vec::new(),
            ))
        })
        .await?;
    let Called(mut response, crash) = answered.into_inner();
    if let Some(diagnostic) = crash.into_iter().next() {
        response.error = Some(FunctionError {
            text: format!("{}: {}", diagnostic.summary, diagnostic.detail),
            function_argument: None,
        });
    }
    Ok(Response::new(response))
}

fn call_it(
    provider: &dyn framework::Provider,
    results: &function::Results,
    request: &call_function::Request,
) -> Result<Option<DynamicValue>, framework::FunctionError> {
    let name = request.name.as_str();
    let found = provider
        .functions()
        .iter()
        .find(|function| function.name() == name);
    let Some(called) = found else {
        return Err(framework::FunctionError::new(format!(
            "this provider has no function {name:?}"
        )));
    };
    let signature = called.signature();
    let arguments: Vec<Value> = request
        .arguments
        .iter()
        .enumerate()
        .map(|(position, argument)| {
            let ty = signature.parameter(position).map_or(&Type::Dynamic, |it| &it.ty);
            decode::typed(ty, Some(argument)).map_err(|_not_of_that_type| {
                framework::FunctionError::of_argument(position, "The value is not of the parameter's type.")
            })
        })
        .collect::<Result<_, _>>()?;
    let result = function::call(called.as_ref(), &arguments)?;
    match encode::typed(&signature.returns, &result, &Refinements::default()) {
        Ok(result) => {
            let (arguments, sent) = (request.arguments.iter().map(bytes), result.as_ref().map(bytes));
            results.compare(name, arguments, sent.unwrap_or_default())?;
            Ok(result)
        }
        Err(_not_of_that_type) => Err(framework::FunctionError::new(
            "The result could not be sent to Terraform. This is a bug in the provider.",
        )),
    }
}

/// The one form of a value that is there.
fn bytes(value: &DynamicValue) -> &[u8] {
    match value.msgpack.as_slice() {
        [] => &value.json,
        msgpack => msgpack,
    }
}

/// The response has no place for diagnostics, of which a panic makes one.
#[derive(Default)]
struct Called(
    call_function::Response,
    Vec<crate::tfplugin6::generated::Diagnostic>,
);

impl Answer for Called {
    fn diagnostics(&mut self) -> &mut Vec<crate::tfplugin6::generated::Diagnostic> {
        &mut self.1
    }
}
