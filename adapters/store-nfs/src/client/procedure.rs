//! The NFSv3 procedures in use, behind one trait, so that retries, identities and deadlines are written once.

use super::framed::Framed;
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, CREATE3resfail, CREATE3resok, FSSTAT3args, FSSTAT3resfail, FSSTAT3resok, GETATTR3args,
    GETATTR3resok, LOOKUP3args, LOOKUP3resfail, LOOKUP3resok, MKDIR3args, MKDIR3resfail, MKDIR3resok,
    Nfs3Result, READ3args, READ3resfail, READ3resok, READDIR3args, READDIR3resfail, READDIR3resok,
    READDIRPLUS3args, READDIRPLUS3resfail, READDIRPLUS3resok, READLINK3args, READLINK3resfail,
    READLINK3resok, REMOVE3args, REMOVE3resfail, REMOVE3resok, RENAME3args, RENAME3resfail, RENAME3resok,
    RMDIR3args, RMDIR3resfail, RMDIR3resok, SETATTR3args, SETATTR3resfail, SETATTR3resok, SYMLINK3args,
    SYMLINK3resfail, SYMLINK3resok, WRITE3args, WRITE3resfail, WRITE3resok,
};
use nfs3_client::nfs3_types::xdr_codec::Void;
use nfs3_client::{Nfs3Client, RpcError};
use tokio::net::TcpStream;

pub(crate) type RpcClient = Nfs3Client<Framed<TcpStream>>;

/// The arguments of a procedure.
pub(crate) trait Procedure: Sync {
    /// Its name in messages.
    const NAME: &'static str;
    type Good: Send;
    type Bad: Send;

    fn call(
        &self,
        client: &mut RpcClient,
    ) -> impl Future<Output = Result<Nfs3Result<Self::Good, Self::Bad>, RpcError>> + Send;
}

macro_rules! procedures {
    ($($arguments:ty, $name:literal, $method:ident, $good:ty, $bad:ty;)*) => {$(
        impl Procedure for $arguments {
            const NAME: &'static str = $name;
            type Good = $good;
            type Bad = $bad;

            async fn call(&self, client: &mut RpcClient) -> Result<Nfs3Result<Self::Good, Self::Bad>, RpcError> {
                client.$method(self).await
            }
        }
    )*};
}

procedures! {
    CREATE3args<'_>, "make a file", create, CREATE3resok, CREATE3resfail;
    FSSTAT3args, "ask for free space", fsstat, FSSTAT3resok, FSSTAT3resfail;
    GETATTR3args, "read attributes", getattr, GETATTR3resok, Void;
    LOOKUP3args<'_>, "look up", lookup, LOOKUP3resok, LOOKUP3resfail;
    MKDIR3args<'_>, "make a directory", mkdir, MKDIR3resok, MKDIR3resfail;
    READ3args, "read a file", read, READ3resok<'static>, READ3resfail;
    READDIR3args, "list a directory", readdir, READDIR3resok<'static>, READDIR3resfail;
    READDIRPLUS3args, "list a directory", readdirplus, READDIRPLUS3resok<'static>, READDIRPLUS3resfail;
    READLINK3args, "read a link", readlink, READLINK3resok<'static>, READLINK3resfail;
    REMOVE3args<'_>, "remove a file", remove, REMOVE3resok, REMOVE3resfail;
    RENAME3args<'_, '_>, "rename", rename, RENAME3resok, RENAME3resfail;
    RMDIR3args<'_>, "remove a directory", rmdir, RMDIR3resok, RMDIR3resfail;
    SETATTR3args, "set owner and mode", setattr, SETATTR3resok, SETATTR3resfail;
    SYMLINK3args<'_>, "make a link", symlink, SYMLINK3resok, SYMLINK3resfail;
    WRITE3args<'_>, "write a file", write, WRITE3resok, WRITE3resfail;
}
